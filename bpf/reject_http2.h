/* Rejection of new streams on an open HTTP/2 connection. A packet is not changed: it passes whole, or it is withheld, and then the
 * client's TCP sends it again, or the kernel takes over the connection and rejects its new streams. */
#pragma once

#include "observe_http2.h"
#include "reject.h"

#define GRACE (1000ULL * 1000000) /* ns for which new streams wait for the end of those in flight */
#define HOLD (1000ULL * 1000000) /* ns for which a limit only delays new streams */

/* What happens to a packet with new streams that are rejected. */
enum stream_rejection {
	STREAM_WITHHOLD,
	STREAM_DROP,
	STREAM_ANSWER,
	STREAM_RESET,
};

static __always_inline bool is_limit(__u32 reason)
{
	return reason == REASON_REQUEST_LIMIT || reason == REASON_RATE_LIMIT;
}

/* answer_fits reports whether an answer can follow the backend's data: all were read, end with a frame, and have reached the
 * client. */
static __always_inline bool answer_fits(const struct packet *pkt, const struct flow *f, const struct http2_connection *c)
{
	const struct frames *fr = &c->backend;

	return fr->phase == FRAMES_HEADER && !fr->have && !fr->block_stream && c->greeted && fr->next == f->backend_end &&
	       pkt->ack == f->backend_end && !(f->flags & (FLOW_BACKEND_FIN | FLOW_BACKEND_FIN_AHEAD));
}

/* awaits_probe reports whether the end of a probe decides about a new stream. The answer would end the connection, and with it
 * a probe in flight. A half-open period ends by its time-out at the latest. */
static __always_inline bool awaits_probe(const struct http2_connection *c, struct circuit *circuit, __u32 reason, __u64 now)
{
	const struct verdict *v = verdict_of(circuit);

	if (c->permits && c->permit_generation == generation_of(v, now))
		return true;
	return reason == REASON_HALF_OPEN && !v->ramp_over && c->streams;
}

/* reject_stream decides how new streams are rejected. */
static __always_inline enum stream_rejection reject_stream(const struct packet *pkt, const struct flow *f,
							   struct http2_connection *c, const struct lookup *l, __u32 reason,
							   __u64 now)
{
	__u64 hold = is_limit(reason) ? HOLD : 0, waited;
	bool fits;

	if (l->policy->reject == REJECT_DROP)
		return STREAM_DROP;
	/* Times of other CPUs may be later. */
	if (!c->withheld || now < c->withheld || awaits_probe(c, l->circuit, reason, now))
		c->withheld = now;
	waited = now - c->withheld;
	if (waited < hold || awaits_probe(c, l->circuit, reason, now))
		return STREAM_WITHHOLD;
	fits = l->policy->reject == REJECT_RESPOND && answer_fits(pkt, f, c);
	if (!READ_ONCE(c->streams) && (fits || l->policy->reject == REJECT_RESET))
		return fits ? STREAM_ANSWER : STREAM_RESET;
	if (waited < hold + GRACE)
		return STREAM_WITHHOLD;
	return fits ? STREAM_ANSWER : STREAM_RESET;
}

/* take_over ends a connection: both sides get a reset. The flow is removed first, because both packets pass these hooks
 * again. */
static __noinline __u64 take_over(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, struct circuit *c, __u32 reason)
{
	__u32 client_end = f->client_end, answer_seq = before(pkt->ack, f->backend_end) ? f->backend_end : pkt->ack;
	struct segment s = { .answer = ANSWER_NONE };
	struct tcp_options o = {};

	close_flow(&pkt->key, f, RESULT_UNKNOWN, bpf_ktime_get_ns());
	tcp_options(skb, pkt, &o);
	__sync_fetch_and_add(&c->takeovers, 1);
	count_rejection(c, reason, REJECT_RESET);
	if (reset_backend(skb, pkt, client_end, &s))
		return decision(ACTION_DROP, REASON_ERROR);
	swap_ts(&s, &o);
	s.seq = answer_seq;
	return reply(skb, pkt, &s, reason, 0);
}

/* http2_on_rejection handles a packet of which the first new stream is rejected. */
static __always_inline __u64 http2_on_rejection(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	struct flow *f = find_flow(&pkt->key);
	struct http2_connection *c = f ? http2_connection_of(f) : NULL;
	enum stream_rejection how;
	struct lookup l;

	if (!c || lookup_target(f->target, &l) != LOOKUP_FOUND)
		return pass(REASON_UNTRACKED);
	how = reject_stream(pkt, f, c, &l, reason, bpf_ktime_get_ns());
	if (how == STREAM_ANSWER || how == STREAM_RESET)
		return take_over(skb, pkt, f, l.circuit, reason);
	if (!(f->flags & FLOW_WITHHELD))
		__sync_fetch_and_or(&f->flags, FLOW_WITHHELD);
	if (how == STREAM_WITHHOLD)
		return decision(ACTION_DROP, REASON_WITHHELD);
	count_rejection(l.circuit, reason, REJECT_DROP);
	return decision(ACTION_DROP, reason);
}
