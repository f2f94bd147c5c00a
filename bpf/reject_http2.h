/* Rejection of new streams on an open HTTP/2 connection. A packet is not changed: it passes whole, or it is withheld, and then the
 * client's TCP sends it again, or the kernel takes over the connection and rejects its new streams. */
#pragma once

#include "kept.h"
#include "observe_http2.h"

#define GRACE (1000ULL * 1000000) /* ns for which new streams wait for the end of those in flight */
#define HOLD (1000ULL * 1000000) /* ns for which new streams are delayed that may soon be admitted */

/* What happens to a packet with new streams that are rejected. */
enum stream_rejection {
	STREAM_WITHHOLD,
	STREAM_DROP,
	STREAM_ANSWER,
	STREAM_RESET,
};

/* probes_ended reports whether all probes of a half-open circuit have ended: the agent is about to publish the next verdict. */
static __always_inline bool probes_ended(struct circuit *c)
{
	struct verdict *v = verdict_of(c);
	__u64 permits = READ_ONCE(v->permits);

	return !v->ramp_over && (__u32)permits >= v->calls && !(permits >> 32);
}

/* may_admit_soon reports whether a stream may be admitted within HOLD: limits change with each request that ends. */
static __always_inline bool may_admit_soon(struct circuit *c, __u32 reason)
{
	if (reason == REASON_HALF_OPEN)
		return probes_ended(c);
	return reason == REASON_REQUEST_LIMIT || reason == REASON_RATE_LIMIT;
}

/* answer_fits reports whether an answer can follow the backend's data: all were read, end with a frame, and have reached the
 * client. */
static __always_inline bool answer_fits(const struct packet *pkt, const struct flow *f, const struct http2_connection *c)
{
	const struct frames *fr = &c->backend;

	return fr->phase == FRAMES_HEADER && !fr->have && !fr->block_stream && fr->next == f->backend_end &&
	       pkt->ack == f->backend_end && !(f->flags & (FLOW_BACKEND_FIN | FLOW_BACKEND_FIN_AHEAD));
}

/* cuts_streams reports whether streams are lost when the backend's connection ends. Those that began before the connection was
 * followed, or whose frames were missed, are not counted. */
static __always_inline bool cuts_streams(const struct flow *f, const struct http2_connection *c)
{
	return READ_ONCE(c->streams) || f->flags & FLOW_JOINED || READ_ONCE(c->epoch);
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
	__u64 hold = may_admit_soon(l->circuit, reason) ? HOLD : 0, waited;
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
	if (!cuts_streams(f, c) && (fits || l->policy->reject == REJECT_RESET))
		return fits ? STREAM_ANSWER : STREAM_RESET;
	if (waited < hold + GRACE)
		return STREAM_WITHHOLD;
	return fits ? STREAM_ANSWER : STREAM_RESET;
}

/* new_kept_of fills the buffer for the entry with which the kernel answers on a connection of a backend: from the first new
 * stream on, after the backend's data. */
static __always_inline struct kept_connection *new_kept_of(const struct packet *pkt, const struct flow *f,
							   const struct http2_connection *from, __u32 reason)
{
	__u32 zero = 0, mss = f->mss ?: ANSWER_MAX;
	struct kept_connection *c = bpf_map_lookup_elem(&new_kept, &zero);

	if (!c)
		return NULL;
	__builtin_memset(c, 0, __builtin_offsetof(struct kept_connection, replies));
	c->client = from->client;
	c->client.busy = 1;
	c->target = f->target;
	c->isn = f->isn;
	c->reason = reason;
	c->start = pkt->ack;
	c->next = pkt->ack;
	c->acked = pkt->ack;
	c->acknowledged = pkt->seq;
	c->limit = mss < ANSWER_MAX ? mss : ANSWER_MAX;
	c->last_stream = from->last_stream;
	c->grpc = from->grpc;
	c->begun = 1;
	c->closing = cuts_streams(f, from);
	c->had_backend = 1;
	c->greeted = from->greeted;
	return c;
}

/* store_taken_over stores the entry that was prepared in the buffer. */
static __always_inline struct kept_connection *store_taken_over(const struct packet *pkt, const struct kept_connection *c, __u32 isn)
{
	struct answered_flow done = { .answer = ANSWER_NONE, .isn = isn, .kept = 1, .had_backend = 1 };

	done.start = pkt->ack;
	done.next = pkt->ack;
	store_kept(&pkt->key, c);
	store_answered(&pkt->key, &done);
	return find_kept(&pkt->key);
}

/* add_greeting raises the windows of streams. If the backend has sent nothing, the whole greeting is due, and the acknowledgement
 * of the SETTINGS that the client has sent before its first stream. Otherwise the window of the connection is not known, and may
 * not be raised above the maximum. */
static __always_inline void add_greeting(struct keeper *w)
{
	struct kept_connection *c = w->connection;
	__u32 len = c->greeted ? GREETING_SETTINGS_LEN : GREETING_LEN;

	add_reply(c, REPLY_GREETING, len);
	added(w, len);
	if (c->greeted)
		return;
	c->greeted = 1;
	add_reply(c, REPLY_SETTINGS, SETTINGS_ACK_LEN);
	added(w, SETTINGS_ACK_LEN);
}

/* take_over ends the backend's connection by a reset. The client gets answers to its new streams, or a reset. If streams of the
 * backend are cut off, GOAWAY and a FIN follow the answers; otherwise the connection stays open as one that was never the backend's.
 * The entry is stored before the flow is removed: a packet of the client on another CPU is then either withheld or waits for the
 * entry. The reset passes these hooks on this CPU, and may start a stage. */
static __always_inline __u64 take_over(struct __sk_buff *skb, struct stage *s, struct flow *f, struct http2_connection *from,
				       struct lookup *l, bool answer)
{
	struct keeper w = { .skb = skb, .stage = s, .policy = l->policy, .circuit = l->circuit };
	__u32 client_end = f->client_end, isn = f->isn, reason = s->argument, answered;
	struct segment out = { .answer = ANSWER_NONE };
	struct packet *pkt = &s->pkt;
	struct tcp_options o = {};
	struct kept_connection *c;
	long failed;
	__u64 d;

	w.connection = c = new_kept_of(pkt, f, from, s->argument);
	if (!c)
		return decision(ACTION_DROP, REASON_ERROR);
	tcp_options(skb, pkt, &o);
	if (o.has_ts)
		c->limit -= 12;
	s->walk.now = bpf_ktime_get_ns();
	__builtin_memset(&s->keep, 0, sizeof(s->keep));
	w.stage->keep.reason = reason;
	w.stage->keep.retry = seconds_until(pkt->until, s->walk.now);
	w.stage->keep.count_only = !answer;
	if (answer && !c->closing)
		add_greeting(&w);
	walk_kept(&w);
	/* The reset of the backend may start a stage, which uses this memory. */
	answered = w.stage->keep.answered;
	answer = answer && !w.stage->keep.reset;
	if (!answer && !answered && !w.stage->keep.reset)
		count_rejection(l->circuit, reason, REJECT_RESET);
	__sync_fetch_and_add(&l->circuit->takeovers, 1);
	/* The place of a reset. */
	c->cursor_seq = before(pkt->ack, f->backend_end) ? f->backend_end : pkt->ack;
	if (answer) {
		c = store_taken_over(pkt, c, isn);
		if (!c)
			return decision(ACTION_DROP, REASON_ERROR);
	}
	close_flow(&pkt->key, f, RESULT_UNKNOWN, s->walk.now);
	s->saved = *pkt;
	failed = reset_backend(skb, pkt, client_end, &out);
	s->pkt = s->saved;
	swap_ts(&out, &o);
	if (!answer) {
		out.back = 1;
		out.flags = TCP_RST | TCP_ACK;
		out.seq = c->cursor_seq;
		out.ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
		return rewritten(failed ?: rewrite(skb, pkt, &out), ACTION_RESET, reason);
	}
	d = failed ? decision(ACTION_DROP, REASON_ERROR) : reply_kept(skb, pkt, c, &out, c->start, c->tail);
	release_kept(c);
	return d >> 32 == ACTION_ACK && answered ? decision(ACTION_RESPOND, reason) : d;
}

/* http2_on_rejection handles a packet of which the first new stream is rejected. s->argument: why. */
static __always_inline __u64 http2_on_rejection(struct __sk_buff *skb, struct stage *s)
{
	struct flow *f = find_flow(&s->pkt.key);
	struct http2_connection *c = f ? http2_connection_of(f) : NULL;
	__u32 reason = s->argument;
	enum stream_rejection how;
	struct lookup l;

	/* Another CPU has taken over the connection, or it has ended. */
	if (!f)
		return decision(ACTION_DROP, REASON_WITHHELD);
	if (!c || lookup_target(f->target, &l) != LOOKUP_FOUND)
		return pass(REASON_UNTRACKED);
	how = reject_stream(&s->pkt, f, c, &l, reason, bpf_ktime_get_ns());
	if (!(f->flags & FLOW_WITHHELD))
		__sync_fetch_and_or(&f->flags, FLOW_WITHHELD);
	if (how == STREAM_ANSWER || how == STREAM_RESET)
		return take_over(skb, s, f, c, &l, how == STREAM_ANSWER);
	if (how == STREAM_WITHHOLD)
		return decision(ACTION_DROP, REASON_WITHHELD);
	count_rejection(l.circuit, reason, REJECT_DROP);
	return decision(ACTION_DROP, reason);
}
