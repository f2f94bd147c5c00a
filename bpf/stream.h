/* Streams of HTTP/2 connections: admission, outcome and removal. A stream holds a request from its admission until the backend
 * has ended it, or its connection ends. */
#pragma once

#include "admit.h"

#define ADMIT_ANYWAY (1ULL << 32) /* argument of admit_stream: see there */

static __always_inline void stream_key(struct stream_key *key, __u64 connection, __u32 stream)
{
	key->connection = connection;
	key->stream = stream;
	key->pad = 0;
}

static __always_inline struct stream *find_stream(const struct flow *f, __u32 stream)
{
	struct stream_key key;

	stream_key(&key, f->http2.connection, stream);
	return bpf_map_lookup_elem(&streams, &key);
}

/* remove_stream removes the entry of a stream. Only the CPU whose deletion succeeds subtracts it. */
static __always_inline void remove_stream(struct http2_connection *c, __u64 connection, __u32 stream)
{
	struct stream_key key;

	stream_key(&key, connection, stream);
	if (!bpf_map_delete_elem(&streams, &key))
		__sync_fetch_and_add(&c->streams, -1);
}

/* first_state returns the state word of a new stream. The memory of a removed entry may be used again while another CPU still
 * holds a pointer to it; the count of changes above the state differs between streams, so that a late compare-and-swap fails. */
static __always_inline __u64 first_state(__u64 connection, __u32 stream)
{
	return (connection * 0x9e3779b97f4a7c15ULL + stream) << 16 | REQUEST_WAIT;
}

/* inherit_reservation passes the permit that the SYN reserved to the first stream. */
static __always_inline bool inherit_reservation(struct flow *f, struct circuit *c, __u64 now, struct admission *adm)
{
	if (!inherit_permit(&f->request, c, now, adm))
		return false;
	__sync_fetch_and_and(&f->request.flags, ~REQUEST_PERMIT);
	return true;
}

/* add_stream adds the entry of an admitted stream. */
static __always_inline bool add_stream(const struct packet *pkt, struct flow *f, struct http2_connection *c, __u32 stream,
				       const struct grant *g, bool permit, __u32 generation)
{
	struct stream s = {};
	struct stream_key key;

	stream_key(&key, f->http2.connection, stream);
	s.request.state = first_state(key.connection, stream);
	s.request.started = g->now;
	s.request.sent = g->now;
	s.request.circuit = g->to.circuit_id;
	s.request.generation = generation;
	s.request.start = pkt->seq + pkt->skip;
	s.request.flags = permit ? REQUEST_PERMIT : 0;
	s.key = pkt->key;
	s.epoch = READ_ONCE(c->epoch);
	/* Before another CPU can end the stream and subtract the permit. */
	if (permit) {
		c->permit_generation = generation;
		__sync_fetch_and_add(&c->permits, 1);
	}
	if (bpf_map_update_elem(&streams, &key, &s, BPF_NOEXIST)) {
		if (permit)
			__sync_fetch_and_add(&c->permits, -1);
		return false;
	}
	__sync_fetch_and_add(&c->streams, 1);
	f->requests++;
	if (f->flags & FLOW_COUNTED)
		__sync_fetch_and_and(&f->flags, ~FLOW_COUNTED);
	return true;
}

/* admit_stream decides about a new stream and adds it if it is admitted. With ADMIT_ANYWAY a stream that would be rejected is
 * admitted and not judged: it shares a packet with an admitted one. The result is a reason. */
__noinline __u64 admit_stream(struct packet *pkt, struct node_state *n, struct flow *f, struct http2_connection *c, __u64 which)
{
	__u32 stream = which;
	struct admission adm = {};
	struct grant g = {};
	bool inherited, probe;

	if (!f || !n || !pkt || !c)
		return 0;
	if (lookup_target(f->target, &g.to) != LOOKUP_FOUND)
		return REASON_UNTRACKED;
	g.now = bpf_ktime_get_ns();
	inherited = inherit_reservation(f, g.to.circuit, g.now, &adm);
	if (!inherited)
		circuit_admit(g.to.circuit, g.now, ramp_draw(n, g.to.circuit, &pkt->key), &adm);
	probe = !inherited && adm.reason == REASON_PROBE;
	grant_request(n, f, &g, &adm, probe);
	if (is_rejection(adm.reason)) {
		release_grant(&g);
		if (inherited)
			__sync_fetch_and_or(&f->request.flags, REQUEST_PERMIT | REQUEST_RESERVED);
		if (!(which & ADMIT_ANYWAY)) {
			pkt->until = adm.until;
			return adm.reason;
		}
		/* A request is counted in flight whether or not it is judged. */
		__sync_fetch_and_add(&g.to.circuit->over_admitted, 1);
		__sync_fetch_and_add(&g.to.circuit->requests, 1);
		g.request = true;
		g.rate = false;
		g.permit = false;
		adm.reason = REASON_ADMITTED;
		adm.generation = 0;
		inherited = false;
	}
	if (!add_stream(pkt, f, c, stream, &g, inherited || g.permit, adm.generation)) {
		release_grant(&g);
		if (inherited)
			return_reservation(n, &pkt->key, &f->request, g.now);
		return REASON_TABLE_FULL;
	}
	__sync_fetch_and_add(&g.to.circuit->admitted, 1);
	if (g.permit)
		record_probe(n, &pkt->key, &g);
	return adm.reason;
}

/* end_stream records the outcome of a stream if it has none yet. c: its connection, NULL after the end of the entry. */
__noinline int end_stream(struct http2_connection *c, struct stream *s, __u32 result, __u64 now)
{
	struct flow_key key;
	bool permit;
	__u64 state;

	if (!s)
		return 0;
	state = READ_ONCE(s->request.state);
	if (request_state_of(state) != REQUEST_WAIT)
		return 0;
	key = s->key;
	permit = s->request.flags & REQUEST_PERMIT;
	if (!end_request(&key, &s->request, state, result, now))
		return 0;
	if (permit && c)
		__sync_fetch_and_add(&c->permits, -1);
	return 1;
}

/* client_left_stream returns the outcome of a stream that its client ends at a moment. */
static __always_inline __u32 client_left_stream(const struct stream *s, __u64 now)
{
	return s->flags & STREAM_RESPONDED ? RESULT_ABORTED : client_left_result(&s->request, now);
}
