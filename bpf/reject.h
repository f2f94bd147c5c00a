/* Replies to a rejected client: to its SYN, to its request, and to all packets after that. */
#pragma once

#include "cookie.h"
#include "observe.h"
#include "options.h"
#include "render.h"
#include "rewrite.h"
#include "target.h"

#define MSS_DEFAULT 536 /* default without an MSS option (RFC 9293, 3.7.1) */
#define MSS_OFFERED 1400

static __always_inline __u64 seconds_until(__u64 until, __u64 now)
{
	return until > now ? (until - now + 999999999) / 1000000000 : 1;
}

/* rewritten returns the decision about a packet after rewrite. */
static __always_inline __u64 rewritten(long err, enum action action, __u32 reason)
{
	return err ? decision(ACTION_DROP, REASON_ERROR) : decision(action, reason);
}

/* answer_syn rewrites a SYN to a SYN-ACK with a cookie. The rejection is counted when the request is answered. */
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
	/* With timestamps a client whose SYN was lost can measure the round trip. Without a measurement its next retransmission
	 * time-out is 3 s (RFC 6298, 5.7). */
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

/* reject_syn rejects a new connection. It sends nothing to the backend and stores no state of the connection. */
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
	/* A full table is a connection limit to the client. */
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

/* swap_ts exchanges the client's timestamps: the value that the client echoed last is the latest that its backend sent. */
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

/* reply rewrites a packet of a client with an open connection to s.answer at s.seq, or to a reset if there is no answer. It
 * stores the answer, so that the rest of the request is discarded. */
__noinline __u64 reply(struct __sk_buff *skb, const struct packet *pkt, struct segment *s, __u32 reason, __u64 until)
{
	struct answered_flow done = { .until = until };
	struct answer *a;

	if (!pkt || !s)
		return 0;
	done.start = s->seq;
	done.answer = s->answer;
	done.head_only = s->head_only;
	done.had_backend = s->had_backend;
	done.isn = s->isn;
	a = answer_at(s->answer);
	s->back = 1;
	s->ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (!a) {
		s->answer = ANSWER_NONE;
		s->flags = TCP_RST | TCP_ACK;
		return rewritten(rewrite(skb, pkt, s), ACTION_RESET, reason);
	}
	done.next = s->seq + (s->head_only ? a->head_len : a->len) + 1;
	store_answered(&pkt->key, &done);
	s->flags = TCP_PSH | TCP_ACK | TCP_FIN;
	return rewritten(rewrite(skb, pkt, s), ACTION_RESPOND, reason);
}

/* reset_backend rewrites the packet to a reset and sends a copy to the backend. seq: the next sequence number that the backend
 * expects. The caller rewrites the packet again. s belongs to the caller, because the stack has no room for two, and holds the
 * reset afterwards. */
static __always_inline long reset_backend(struct __sk_buff *skb, const struct packet *pkt, __u32 seq, struct segment *s)
{
	s->flags = TCP_RST | TCP_ACK;
	s->seq = seq;
	s->ack = pkt->ack;
	return rewrite(skb, pkt, s) ?: bpf_clone_redirect(skb, skb->ifindex, pkt->hook == HOOK_INGRESS ? BPF_F_INGRESS : 0);
}

/* reject_request rejects a request on an open connection: the backend gets a reset, the client the answer or a reset. The flow
 * is removed first, because both packets pass these hooks again. */
__noinline __u64 reject_request(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 reason)
{
	struct segment s = { .answer = ANSWER_NONE };
	__u64 now = bpf_ktime_get_ns();
	struct tcp_options o = {};
	enum reject how;
	struct lookup l;
	__u32 answer_seq, answer, mss, isn;
	bool fits;

	if (!f || !pkt || lookup_target(f->target, &l) != LOOKUP_FOUND)
		return 0;
	if (l.policy->reject == REJECT_DROP) {
		count_rejection(l.circuit, reason, REJECT_DROP);
		return decision(ACTION_DROP, reason);
	}
	/* An answer before bytes of the backend that are still in flight would corrupt the stream or be discarded. A client
	 * accepts a reset only at the next sequence number, which is after those bytes. */
	answer_seq = before(pkt->ack, f->backend_end) ? f->backend_end : pkt->ack;
	fits = !pkt->no_answer && answer_seq == pkt->ack && response_ended(f, answer_seq);
	mss = f->mss ?: MSS_ANY;
	isn = f->isn;
	close_flow(&pkt->key, f, RESULT_ABORTED, now);
	tcp_options(skb, pkt, &o);
	how = render(l.policy, reason, fits, mss, o.has_ts, &answer);
	count_rejection(l.circuit, reason, how);
	if (reset_backend(skb, pkt, pkt->seq, &s))
		return decision(ACTION_DROP, REASON_ERROR);
	swap_ts(&s, &o);
	s.seq = answer_seq;
	s.answer = answer;
	s.had_backend = 1;
	s.isn = isn;
	s.head_only = pkt->is_head;
	s.retry = seconds_until(pkt->until, now);
	return reply(skb, pkt, &s, reason, pkt->until);
}

/* answered_packet handles a packet of a connection whose request was answered. */
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
		/* Either the reset for the backend, which the ingress program redirected through this hook, or the client's
		 * reply to a backend that did not get the reset. */
		if (done->had_backend)
			return decision(ACTION_PASS, REASON_ANSWERED);
		remove_answered(&pkt->key);
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	}
	if (!pkt->payload && !(pkt->flags & TCP_FIN))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	echo_ts(skb, pkt, &s);
	s.back = 1;
	s.ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (before(pkt->ack, done->next) && done->answer != ANSWER_NONE) {
		/* The answer may be lost, and the client does not repeat data that the answer acknowledged: so each ACK carries
		 * the answer again. */
		s.seq = done->start;
		s.answer = done->answer;
		s.head_only = done->head_only;
		s.retry = seconds_until(done->until, bpf_ktime_get_ns());
		s.flags = TCP_PSH | TCP_ACK | TCP_FIN;
	} else {
		s.seq = done->next;
		s.flags = TCP_ACK;
	}
	return rewritten(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
}

/* close_answered closes a connection whose SYN was answered and whose client sends a FIN before a request. s belongs to the
 * caller, because the stack has no room for two. */
static __always_inline long close_answered(struct __sk_buff *skb, const struct packet *pkt, struct segment *s)
{
	struct answered_flow done = { .start = pkt->ack, .next = pkt->ack + 1, .answer = ANSWER_NONE, .isn = pkt->seq - 1 };

	store_answered(&pkt->key, &done);
	s->back = 1;
	s->seq = pkt->ack;
	s->ack = pkt->seq + 1;
	s->flags = TCP_ACK | TCP_FIN;
	return rewrite(skb, pkt, s);
}

/* cookie_packet handles a packet that acknowledges a cookie. reason: why the SYN was answered. */
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
	/* Segments ahead of the first one are dropped: without an acknowledgement TCP sends them again. */
	if (!pkt->first_segment)
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
	s.head_only = pkt->is_head;
	s.retry = seconds_until(until, bpf_ktime_get_ns());
	s.seq = pkt->ack;
	s.isn = pkt->seq - 1;
	return reply(skb, pkt, &s, reason, until);
}
