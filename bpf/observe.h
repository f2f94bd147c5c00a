/* Observers. Each parses one protocol and turns the data of a connection into requests and results; client.h and backend.h
 * handle TCP only. A new protocol adds a header like observe_http1.h, a member of the union in struct flow, and a case here. */
#pragma once

#include "observe_http1.h"

/* tcp_on_request decides about data under a tcp policy. Data need no permit, so half-open rejects none. */
static __always_inline __u64 tcp_on_request(struct node_state *n, struct flow *f)
{
	const __u64 pass = decision(ACTION_PASS, REASON_FLOW);
	bool counted = f->flags & FLOW_COUNTED;
	struct admission adm = {};
	struct lookup l;
	__u64 now;

	if (lookup_target(f->target, &l) != LOOKUP_FOUND || !l.policy->existing)
		return pass;
	now = bpf_ktime_get_ns();
	adm.reason = verdict_rejection(verdict_of(l.circuit), now);
	if (!adm.reason || (counted && monitored(l.circuit)))
		return pass;
	override_rejection(l.circuit, n, &adm, now, !counted);
	if (is_rejection(adm.reason))
		return decision(TODO_REJECT_REQUEST, adm.reason);
	if (!counted)
		__sync_fetch_and_or(&f->flags, FLOW_COUNTED);
	return decision(ACTION_PASS, adm.reason);
}

/* on_open is called when the initial sequence numbers of both sides are known. */
static __always_inline void on_open(struct flow *f)
{
	if (f->protocol == PROTOCOL_HTTP)
		http1_on_open(f);
}

/* on_request decides about the next data of the client in order. */
static __always_inline __u64 on_request(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	switch (f->protocol) {
	case PROTOCOL_HTTP:
		return http1_on_request(skb, pkt, n, f);
	case PROTOCOL_HTTP2:
		return decision(TODO_HTTP2_CLIENT, 0);
	default:
		return tcp_on_request(n, f);
	}
}

/* on_response reads data of the backend. They may be retransmitted or ahead of a gap. */
static __always_inline void on_response(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	if (f->protocol == PROTOCOL_HTTP)
		http1_on_response(skb, pkt, f);
}

/* response_ended reports whether the last response ends at seq, so that an answer can begin there. */
static __always_inline bool response_ended(const struct flow *f, __u32 seq)
{
	return f->protocol == PROTOCOL_HTTP && http1_response_ended(&f->http1, seq);
}
