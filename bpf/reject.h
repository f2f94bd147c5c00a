/* Rejecting a client: what it gets for its SYN, for its request, and for all that it sends after. */
#pragma once

#include "cookie.h"
#include "observe.h"
#include "options.h"
#include "render.h"
#include "rewrite.h"
#include "target.h"

#define MSS_DEFAULT 536 /* RFC 9293, 3.7.1: what a client that names none can take */
#define MSS_OFFERED 1400

static __always_inline __u64 seconds_until(__u64 until, __u64 now)
{
	return until > now ? (until - now + 999999999) / 1000000000 : 1;
}

/* rewritten returns the decision about a packet that was rewritten. */
static __always_inline __u64 rewritten(long err, enum action action, __u32 reason)
{
	return err ? decision(ACTION_DROP, REASON_ERROR) : decision(action, reason);
}

/* answer_syn turns a SYN into a SYN-ACK with a cookie. The rejection is counted when its request is answered. */
static __always_inline long answer_syn(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, struct circuit *c,
				       __u32 reason, const struct tcp_options *o)
{
	struct segment s = { .back = 1, .answer = ANSWER_NONE, .flags = TCP_SYN | TCP_ACK, .mss = MSS_OFFERED };
	__u64 now = bpf_ktime_get_coarse_ns();

	extend_answering(&c->answering_until, now);
	if (pkt->hook == HOOK_INGRESS)
		extend_answering(&n->answering_until, now);
	s.seq = cookie(tuple_hash(n, &pkt->key), pkt->seq, reason);
	s.ack = pkt->seq + 1;
	/* With timestamps a client whose SYN was lost knows the round trip all the same, and need not wait 3 s for what is
	 * lost next (RFC 6298, 5.7). */
	s.has_ts = o->has_ts;
	s.ts_val = bpf_htonl((__u32)(now / 1000000));
	s.ts_ecr = o->ts_val;
	return rewrite(skb, pkt, &s);
}

static __always_inline long reset_syn(struct __sk_buff *skb, const struct packet *pkt)
{
	struct segment s = { .back = 1, .answer = ANSWER_NONE, .flags = TCP_RST | TCP_ACK };

	s.ack = pkt->seq + 1 + pkt->payload;
	return rewrite(skb, pkt, &s);
}

/* reject_syn rejects a new connection: nothing of it goes on to the backend, and nothing is stored. */
__noinline __u64 reject_syn(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	struct node_state *n = the_node();
	struct tcp_options o = {};
	__u32 answer, limit = reason;
	struct lookup l;
	enum reject how;

	if (!n || !pkt)
		return 0;
	if (lookup_target(pkt->target, &l) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	/* To clients a full table is a limit like another. */
	if (reason == REASON_TABLE_FULL)
		limit = REASON_CONNECTION_LIMIT;
	if (l.policy->reject == REJECT_RESPOND)
		tcp_options(skb, pkt, &o);
	how = render(l.policy, limit, true, o.mss ?: MSS_DEFAULT, o.has_ts, &answer);
	if (how == REJECT_RESPOND)
		return rewritten(answer_syn(skb, pkt, n, l.circuit, limit, &o), ACTION_RESPOND, reason);
	count_rejection(l.circuit, limit, how);
	if (how == REJECT_DROP)
		return decision(ACTION_DROP, reason);
	return rewritten(reset_syn(skb, pkt), ACTION_RESET, reason);
}

/* swap_ts sends the client's timestamps back swapped: what it echoed last is the newest that its backend sent. */
static __always_inline void swap_ts(struct segment *s, const struct tcp_options *o)
{
	s->has_ts = o->has_ts;
	s->ts_val = o->ts_ecr;
	s->ts_ecr = o->ts_val;
}

static __always_inline void echo_ts(struct __sk_buff *skb, const struct packet *pkt, struct segment *s)
{
	struct tcp_options o = {};

	tcp_options(skb, pkt, &o);
	swap_ts(s, &o);
}

/* reply turns the packet of a client that has a connection into s.answer at s.seq, or into a reset when there is none. It
 * remembers the answer, so that the rest of the request can be discarded. */
__noinline __u64 reply(struct __sk_buff *skb, const struct packet *pkt, struct segment *s, __u32 reason, __u64 until)
{
	struct answered_flow done = { .until = until };
	struct answer *a;

	if (!pkt || !s)
		return 0;
	done.start = s->seq;
	done.answer = s->answer;
	done.head = s->head;
	done.known = s->known;
	done.isn = s->isn;
	a = answer_at(s->answer);
	s->back = 1;
	s->ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (!a) {
		s->answer = ANSWER_NONE;
		s->flags = TCP_RST | TCP_ACK;
		return rewritten(rewrite(skb, pkt, s), ACTION_RESET, reason);
	}
	done.next = s->seq + (s->head ? a->head_len : a->len) + 1;
	remember_answered(&pkt->key, &done);
	s->flags = TCP_PSH | TCP_ACK | TCP_FIN;
	return rewritten(rewrite(skb, pkt, s), ACTION_RESPOND, reason);
}

/* reset_backend sends the backend a reset: the packet becomes one, and a copy goes on. The caller rewrites the packet again. s is
 * the caller's, because the stack has no room for two, and is that of the reset afterwards. */
static __always_inline long reset_backend(struct __sk_buff *skb, const struct packet *pkt, struct segment *s)
{
	s->flags = TCP_RST | TCP_ACK;
	s->seq = pkt->seq;
	s->ack = pkt->ack;
	return rewrite(skb, pkt, s) ?: bpf_clone_redirect(skb, skb->ifindex, pkt->hook == HOOK_INGRESS ? BPF_F_INGRESS : 0);
}

/* reject_request rejects a request on an open connection: the backend's side is reset, the client gets the answer or a reset.
 * The flow is forgotten first, for both packets pass these hooks again. */
__noinline __u64 reject_request(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 reason)
{
	struct segment s = { .answer = ANSWER_NONE };
	__u64 now = bpf_ktime_get_ns();
	struct tcp_options o = {};
	enum reject how;
	struct lookup l;
	__u32 place, answer, mss, isn;
	bool fits;

	if (!f || !pkt || lookup_target(f->target, &l) != LOOKUP_FOUND)
		return 0;
	if (l.policy->reject == REJECT_DROP) {
		count_rejection(l.circuit, reason, REJECT_DROP);
		return decision(ACTION_DROP, reason);
	}
	/* An answer below bytes that are on their way would end up among them, or be thrown away. A reset is taken only where
	 * the next byte is expected, which is after them. */
	place = before(pkt->ack, f->backend_end) ? f->backend_end : pkt->ack;
	fits = !pkt->bare && place == pkt->ack && response_ended(f, place);
	mss = f->mss ?: MSS_ANY;
	isn = f->isn;
	close_flow(&pkt->key, f, RESULT_ABORTED, now);
	tcp_options(skb, pkt, &o);
	how = render(l.policy, reason, fits, mss, o.has_ts, &answer);
	count_rejection(l.circuit, reason, how);
	if (reset_backend(skb, pkt, &s))
		return decision(ACTION_DROP, REASON_ERROR);
	swap_ts(&s, &o);
	s.seq = place;
	s.answer = answer;
	s.known = 1;
	s.isn = isn;
	s.head = pkt->head;
	s.retry = seconds_until(pkt->until, now);
	return reply(skb, pkt, &s, reason, pkt->until);
}

/* answered_packet takes a packet of a connection whose request was answered. */
__noinline __u64 answered_packet(struct __sk_buff *skb, const struct packet *pkt)
{
	struct segment s = { .answer = ANSWER_NONE };
	struct answered_flow *done;

	if (!pkt)
		return 0;
	done = find_answered(&pkt->key);
	if (!done)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (pkt->flags & TCP_RST) {
		/* Our own for the backend, which the ingress program redirected through this hook, or the client's answer to a
		 * backend that has lost ours. */
		if (done->known)
			return decision(ACTION_PASS, REASON_ANSWERED);
		forget_answered(&pkt->key);
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	}
	if (!pkt->payload && !(pkt->flags & TCP_FIN))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	echo_ts(skb, pkt, &s);
	s.back = 1;
	s.ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (before(pkt->ack, done->next) && done->answer != ANSWER_NONE) {
		/* The answer may be lost, and the client does not repeat what the answer acknowledged: so each ACK carries it. */
		s.seq = done->start;
		s.answer = done->answer;
		s.head = done->head;
		s.retry = seconds_until(done->until, bpf_ktime_get_ns());
		s.flags = TCP_PSH | TCP_ACK | TCP_FIN;
	} else {
		s.seq = done->next;
		s.flags = TCP_ACK;
	}
	return rewritten(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
}

/* close_answered closes a connection whose SYN was answered and that closes before a request. s is the caller's, because the
 * stack has no room for two. */
static __always_inline long close_answered(struct __sk_buff *skb, const struct packet *pkt, struct segment *s)
{
	struct answered_flow done = { .start = pkt->ack, .next = pkt->ack + 1, .answer = ANSWER_NONE, .isn = pkt->seq - 1 };

	remember_answered(&pkt->key, &done);
	s->back = 1;
	s->seq = pkt->ack;
	s->ack = pkt->seq + 1;
	s->flags = TCP_ACK | TCP_FIN;
	return rewrite(skb, pkt, s);
}

/* cookie_packet takes a packet that acknowledges a cookie: its SYN was answered from here. reason: why it was. */
__noinline __u64 cookie_packet(struct __sk_buff *skb, struct packet *pkt, __u32 reason)
{
	struct segment s = { .answer = ANSWER_NONE };
	struct verdict *v;
	enum reject how;
	struct lookup l;
	__u64 until = 0;

	if (!pkt || !is_rejection(reason))
		return 0;
	if (pkt->flags & TCP_RST || (!pkt->payload && !(pkt->flags & TCP_FIN)))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	/* What has overtaken the first segment comes again: TCP repeats what nobody acknowledges. */
	if (!pkt->first)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (lookup_target(pkt->target, &l) != LOOKUP_FOUND)
		return 0;
	echo_ts(skb, pkt, &s);
	if (!pkt->payload)
		return rewritten(close_answered(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
	v = verdict_of(l.circuit);
	if (v->kind == VERDICT_OPEN || v->kind == VERDICT_FORCED_OPEN)
		until = v->until;
	how = render_first(skb, pkt, l.policy, reason, &s.answer);
	count_rejection(l.circuit, reason, how);
	s.head = pkt->head;
	s.retry = seconds_until(until, bpf_ktime_get_ns());
	s.seq = pkt->ack;
	s.isn = pkt->seq - 1;
	return reply(skb, pkt, &s, reason, until);
}
