/* Packets from a backend. */
#pragma once

#include "observe.h"

/* unanswered_result returns the outcome of a pending request if this packet of the backend ends the connection. On a used
 * connection the request may have crossed the backend's FIN; then the backend has not acknowledged it. */
static __always_inline __u32 unanswered_result(const struct flow *f, const struct packet *pkt, __u64 now)
{
	const struct request *r = &f->request;

	if (r->flags & REQUEST_RACED || (f->flags & FLOW_USED && pkt->flags & TCP_ACK && !before(r->start, pkt->ack)))
		return RESULT_RACED;
	/* A backend replies with a RST to a forged request on a connection that does not exist. So if no SYN was seen, the RST
	 * counts only after another packet of the backend. */
	if ((f->flags & (FLOW_JOINED | FLOW_ANSWERING)) == FLOW_JOINED)
		return RESULT_UNKNOWN;
	return f->flags & FLOW_CLIENT_FIN ? client_left_result(r, now) : RESULT_RESET;
}

/* backend_syn_ack records the sequence numbers of a SYN-ACK. The connection opens at the client's ACK. */
__noinline int backend_syn_ack(const struct flow_key *key, struct flow *f, __u32 seq)
{
	__u64 state;

	if (!f || !key)
		return 0;
	state = READ_ONCE(f->state);
	if (phase_of(state) != PHASE_SYN && phase_of(state) != PHASE_EXPIRED)
		return 0;
	f->backend_end = seq + 1;
	f->client_ack = seq + 1;
	f->backend_next = seq + 1;
	on_open(f);
	__sync_fetch_and_or(&f->flags, FLOW_ANSWERING);
	if (phase_of(state) == PHASE_SYN)
		handshake_answered(key, f, state, PHASE_ACCEPTED);
	return 0;
}

/* backend_reset closes the connection. */
static __always_inline void backend_reset(const struct packet *pkt, struct flow *f, enum phase phase)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 result = RESULT_RESET;

	/* Requests that crossed the end of the connection are not acknowledged. A RST without an acknowledgement says nothing
	 * of them: it is no sign of a crossing. */
	if (f->protocol == PROTOCOL_HTTP2 && pkt->flags & TCP_ACK)
		record_backend_ack(f, pkt);
	else if (f->protocol == PROTOCOL_HTTP2)
		f->acked = f->client_max;
	if (phase == PHASE_SYN)
		result = RESULT_CONNECT_REFUSED;
	else if (request_state_of(READ_ONCE(f->request.state)) == REQUEST_WAIT)
		result = unanswered_result(f, pkt, now);
	close_flow(&pkt->key, f, result, now);
}

/* backend_fin ends a pending request without a response if the FIN is the next byte to read. */
static __always_inline void backend_fin(const struct packet *pkt, struct flow *f, bool in_order)
{
	__u32 fin = pkt->seq + pkt->payload;
	struct request *r = &f->request;
	__u64 state = READ_ONCE(r->state), now;

	if (request_state_of(state) == REQUEST_WAIT && fin == f->backend_next) {
		now = bpf_ktime_get_ns();
		end_request(&pkt->key, r, state, unanswered_result(f, pkt, now), now);
	}
	record_backend_fin(f, fin, in_order);
}

/* http2_backend_fin records a FIN on an HTTP/2 connection once all data before it were read. */
static __always_inline void http2_backend_fin(const struct packet *pkt, struct flow *f)
{
	__u32 fin = pkt->flags & TCP_FIN ? pkt->seq + pkt->payload : f->backend_fin;

	if (pkt->flags & TCP_FIN)
		record_backend_fin(f, fin, backend_read_to(f, fin));
	else if (f->flags & FLOW_BACKEND_FIN_AHEAD && backend_read_to(f, fin))
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN);
	close_after_backend_fin(f);
}

/* after_backend_data goes on with a packet whose data were read. in_order: it left no gap. */
static __always_inline void after_backend_data(const struct packet *pkt, struct flow *f, bool in_order)
{
	if (f->protocol == PROTOCOL_HTTP2)
		http2_backend_fin(pkt, f);
	else if (pkt->flags & TCP_FIN)
		backend_fin(pkt, f, in_order);
	else if (f->flags & FLOW_BACKEND_FIN_AHEAD && f->backend_fin == f->backend_end)
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN);
	if (!(f->flags & FLOW_BACKEND_FIN))
		return;
	close_if_finished(&pkt->key, f);
}

__noinline __u64 backend_packet(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n)
{
	const __u64 out_of_sequence = decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE), pass = decision(ACTION_PASS, REASON_FLOW);
	enum phase phase;
	struct flow *f;
	bool in_order;

	if (!n || !pkt)
		return 0;
	f = find_flow(&pkt->key);
	if (!f)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	phase = phase_of(READ_ONCE(f->state));

	if (pkt->flags & TCP_RST) {
		if (!backend_reset_fits(f, pkt, handshaking(phase)))
			return out_of_sequence;
		backend_reset(pkt, f, phase);
		return pass;
	}
	if (pkt->flags & TCP_SYN) {
		if (!acknowledges_syn(f, pkt))
			return out_of_sequence;
		f->last_seen = bpf_ktime_get_coarse_ns();
		record_backend_ack(f, pkt);
		backend_syn_ack(&pkt->key, f, pkt->seq);
		return pass;
	}
	/* A backend sends nothing before its SYN-ACK. */
	if (handshaking(phase) && !(f->flags & FLOW_ANSWERING))
		return out_of_sequence;
	f->last_seen = bpf_ktime_get_coarse_ns();
	if (!(f->flags & FLOW_ANSWERING))
		__sync_fetch_and_or(&f->flags, FLOW_ANSWERING);
	in_order = !before(f->backend_end, pkt->seq);
	record_backend_ack(f, pkt);
	record_backend_data(f, pkt);
	if (pkt->payload) {
		if (f->protocol == PROTOCOL_HTTP2)
			return decision(TODO_HTTP2_BACKEND, in_order);
		on_response(skb, pkt, f);
		/* Frames may follow the head of the response that upgraded the connection. */
		if (f->protocol == PROTOCOL_HTTP2)
			return decision(TODO_HTTP2_BACKEND, in_order);
	}
	after_backend_data(pkt, f, in_order);
	return pass;
}
