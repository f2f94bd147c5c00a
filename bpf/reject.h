/* Turning a client away: what it gets for its SYN, for its request, and for all that it sends after. */
#pragma once

#include "cookie.h"
#include "flow.h"
#include "http1.h"
#include "proxy.h"
#include "rewrite.h"

#define MSS_DEFAULT 536 /* RFC 9293, 3.7.1: what a client that names none can take */
#define MSS_OFFERED 1400

static __always_inline __u64 seconds_until(__u64 until, __u64 now)
{
	return until > now ? (until - now + 999999999) / 1000000000 : 1;
}

/* rejection_index is the place of a reason among the rejections, REJECTIONS when it has none. The bound is made where the verifiers
 * of older kernels see it: a compiler that knows the reason's range leaves it out. */
static __always_inline __u32 rejection_index(__u32 reason)
{
	__u32 i = reason - REASON_OPEN;

	asm volatile("" : "+r"(i));
	return i < REJECTIONS ? i : REJECTIONS;
}

static __always_inline void count_rejection(struct circuit *c, __u32 reason, enum reject how)
{
	__u32 i = rejection_index(reason);

	if (i < REJECTIONS && how < REJECT_MAX)
		__sync_fetch_and_add(&c->rejected[i][how], 1);
}

static __always_inline void count_would(struct circuit *c, __u32 reason)
{
	__u32 i = rejection_index(reason);

	if (i < REJECTIONS)
		__sync_fetch_and_add(&c->would[i], 1);
}

static __always_inline __u32 answer_of(const struct policy *p, __u32 reason)
{
	__u32 i = rejection_index(reason);

	return i < REJECTIONS ? p->answers[i] : ANSWER_NONE;
}

static __always_inline __u64 sent(long err, enum action action, __u32 reason)
{
	return err ? decision(ACTION_DROP, REASON_ERROR) : decision(action, reason);
}

/* A new connection is rejected: nothing of it goes on to the backend, and nothing is stored. */
__noinline __u64 reject_syn(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	struct node_state *n = the_node();
	struct circuit *c;
	__u32 told = reason;
	struct segment s = { .back = 1, .answer = ANSWER_NONE };
	struct tcp_options o = {};
	struct policy *p;
	struct answer *a;
	__u32 index;
	__u64 now;

	if (!n || !pkt)
		return 0;
	c = circuit_of(pkt->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	/* Clients are told of a full table as of a limit. */
	if (reason == REASON_TABLE_FULL)
		reason = REASON_CONNECTION_LIMIT;
	if (p->reject == REJECT_DROP) {
		count_rejection(c, reason, REJECT_DROP);
		return decision(ACTION_DROP, told);
	}
	if (p->reject == REJECT_RESPOND) {
		index = answer_of(p, reason);
		a = answer_at(index);
		tcp_options(skb, pkt, &o);
		if (a && a->len + (o.has_ts ? 12 : 0) <= (o.mss ?: MSS_DEFAULT)) {
			/* Counted when its request is answered. */
			now = bpf_ktime_get_coarse_ns();
			answering(&c->answering_until, now);
			if (pkt->hook == HOOK_INGRESS)
				answering(&n->answering_until, now);
			s.seq = cookie(tuple_hash(n, &pkt->key), pkt->seq, reason);
			s.ack = pkt->seq + 1;
			s.flags = TCP_SYN | TCP_ACK;
			s.mss = MSS_OFFERED;
			/* With them a client whose SYN was lost knows the round trip all the same, and need not wait 3 s for
			 * what is lost next (RFC 6298, 5.7). */
			s.has_ts = o.has_ts;
			s.ts_val = bpf_htonl((__u32)(now / 1000000));
			s.ts_ecr = o.ts_val;
			return sent(rewrite(skb, pkt, &s), ACTION_RESPOND, told);
		}
	}
	count_rejection(c, reason, REJECT_RESET);
	s.ack = pkt->seq + 1 + pkt->payload;
	s.flags = TCP_RST | TCP_ACK;
	return sent(rewrite(skb, pkt, &s), ACTION_RESET, told);
}

/* The client's timestamps go back swapped: what it echoed last is the newest that its backend sent. */
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

/* reply turns the packet of a client that has a connection into s.answer at s.seq, or into a reset when there is none, and
 * remembers what was said so that the rest of the request can be thrown away. */
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
		return sent(rewrite(skb, pkt, s), ACTION_RESET, reason);
	}
	done.next = s->seq + (s->head ? a->head_len : a->len) + 1;
	remember_answered(&pkt->key, &done);
	s->flags = TCP_PSH | TCP_ACK | TCP_FIN;
	return sent(rewrite(skb, pkt, s), ACTION_RESPOND, reason);
}

/* A request on an open connection is rejected: the backend's side is reset, the client gets the answer or a reset. The
 * flow is forgotten first, for both packets pass these hooks again. */
__noinline __u64 reject_request(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 reason)
{
	struct segment s = { .flags = TCP_RST | TCP_ACK, .answer = ANSWER_NONE };
	__u64 now = bpf_ktime_get_ns();
	__u32 mss, isn, place, answer = ANSWER_NONE;
	struct tcp_options o = {};
	struct circuit *c;
	struct policy *p;
	struct answer *a;
	bool fits;

	if (!f || !pkt)
		return 0;
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return 0;
	if (p->reject == REJECT_DROP) {
		count_rejection(c, reason, REJECT_DROP);
		return decision(ACTION_DROP, reason);
	}
	/* An answer below bytes that are on their way would end up among them, or be thrown away. A reset is taken only where
	 * the next byte is expected, which is after them. */
	place = before(pkt->ack, f->backend_end) ? f->backend_end : pkt->ack;
	fits = !pkt->bare && place == pkt->ack && responded(f, place);
	mss = f->mss;
	isn = f->isn;
	close_flow(&pkt->key, f, RESULT_ABORTED, now);
	if (p->reject == REJECT_RESPOND && fits)
		answer = answer_of(p, reason);
	a = answer_at(answer);
	tcp_options(skb, pkt, &o);
	/* An MSS counts the options in (RFC 6691). */
	if (!a || (mss && a->len + (o.has_ts ? 12 : 0) > mss))
		answer = ANSWER_NONE;
	count_rejection(c, reason, answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND);
	s.seq = pkt->seq;
	s.ack = pkt->ack;
	if (rewrite(skb, pkt, &s) || bpf_clone_redirect(skb, skb->ifindex, pkt->hook == HOOK_INGRESS ? BPF_F_INGRESS : 0))
		return decision(ACTION_DROP, REASON_ERROR);
	swap_ts(&s, &o);
	s.seq = place;
	s.answer = answer;
	s.head = pkt->head;
	s.known = 1;
	s.isn = isn;
	s.retry = seconds_until(pkt->until, now);
	return reply(skb, pkt, &s, reason, pkt->until);
}

/* A packet of a connection that the kernel answered. */
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
		/* Our own for the backend, which an interface's way in brings here again, or the client's, who answers a
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
		/* The answer may be lost, and what it acknowledged is never sent again: so it goes with every ACK. */
		s.seq = done->start;
		s.answer = done->answer;
		s.head = done->head;
		s.retry = seconds_until(done->until, bpf_ktime_get_ns());
		s.flags = TCP_PSH | TCP_ACK | TCP_FIN;
	} else {
		s.seq = done->next;
		s.flags = TCP_ACK;
	}
	return sent(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
}

/* A packet with our own sequence number acknowledged: its SYN was answered from here. reason: why it was. */
__noinline __u64 cookie_packet(struct __sk_buff *skb, struct packet *pkt, __u32 reason)
{
	struct circuit *c;
	struct segment s = { .answer = ANSWER_NONE };
	struct answered_flow done = {};
	struct verdict *v;
	struct policy *p;
	enum method m;
	__u64 now, until = 0;

	if (!pkt || !is_rejection(reason))
		return 0;
	c = circuit_of(pkt->circuit);
	if (!c)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (pkt->flags & TCP_RST || (!pkt->payload && !(pkt->flags & TCP_FIN)))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	/* What has overtaken the first segment comes again: TCP repeats what nobody acknowledges. */
	if (!pkt->first)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	p = policy_of(c);
	if (!p)
		return 0;
	now = bpf_ktime_get_ns();
	if (!pkt->payload) {
		/* It closes without having asked. */
		echo_ts(skb, pkt, &s);
		s.back = 1;
		s.seq = pkt->ack;
		s.ack = pkt->seq + 1;
		s.flags = TCP_ACK | TCP_FIN;
		done.start = pkt->ack;
		done.next = pkt->ack + 1;
		done.answer = ANSWER_NONE;
		done.isn = pkt->seq - 1;
		remember_answered(&pkt->key, &done);
		return sent(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
	}
	v = verdict_of(c);
	if (v->kind == VERDICT_OPEN || v->kind == VERDICT_FORCED_OPEN)
		until = v->until;
	m = method(skb, pkt);
	if (m == METHOD_NONE) {
		__u32 skip = proxy_header(skb, pkt);

		if (skip && skip < pkt->payload) {
			pkt->skip = skip;
			m = method(skb, pkt);
		}
	}
	if (m != METHOD_NONE)
		s.answer = answer_of(p, reason);
	s.head = m == METHOD_HEAD;
	s.retry = seconds_until(until, now);
	count_rejection(c, reason, s.answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND);
	echo_ts(skb, pkt, &s);
	s.seq = pkt->ack;
	s.isn = pkt->seq - 1;
	return reply(skb, pkt, &s, reason, until);
}
