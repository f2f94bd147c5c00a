/* Packets to a backend. */
#pragma once

#include "destination.h"
#include "observe.h"

/* complete_handshake opens a connection at the client's ACK. An expired handshake is not counted any more: it is counted again,
 * or both sides are reset if the limit is reached. It returns the decision about the packet; the caller goes on after
 * REASON_FLOW. */
__noinline __u64 complete_handshake(struct packet *pkt, struct flow *f)
{
	const __u64 undecided = decision(ACTION_PASS, REASON_FLOW);
	struct admission adm = {};
	struct lookup l;
	__u64 state;

	if (!f || !pkt)
		return 0;
	state = READ_ONCE(f->state);
	if (!handshaking(phase_of(state)))
		return undecided;
	if (!completes_handshake(f, pkt))
		return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
	if (!(f->flags & FLOW_ANSWERING)) {
		f->client_ack = pkt->ack;
		f->backend_end = pkt->ack;
		f->backend_next = pkt->ack;
		on_open(f);
	}
	if (phase_of(state) == PHASE_SYN) {
		handshake_answered(&pkt->key, f, state, PHASE_OPEN);
		return undecided;
	}
	if (phase_of(state) == PHASE_ACCEPTED) {
		set_phase(f, state, PHASE_OPEN);
		return undecided;
	}
	if (lookup_target(f->target, &l) != LOOKUP_FOUND)
		return undecided;
	if (!count_within_limit(l.circuit, &l.target->connections, l.policy->max_connections, &adm, REASON_CONNECTION_LIMIT, true)) {
		pkt->no_answer = 1;
		return decision(TODO_REJECT_REQUEST, adm.reason);
	}
	if (!set_phase(f, state, PHASE_OPEN))
		__sync_fetch_and_add(&l.target->connections, -1);
	return undecided;
}

/* client_data decides about data of the client beyond client_end. */
__noinline __u64 client_data(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 d;

	if (!f || !pkt || !n)
		return 0;
	if (!is_next(f, pkt)) {
		if (!acknowledges_backend(f, pkt))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		record_client_data(f, pkt);
		/* The backend would process them as soon as the packet before them passes. */
		if (READ_ONCE(f->flags) & FLOW_WITHHELD)
			return decision(ACTION_DROP, REASON_WITHHELD);
		if (f->protocol == PROTOCOL_HTTP2)
			return on_request(skb, pkt, n, f);
		keep_before_preface(skb, pkt, n, f);
		if (request_state_of(READ_ONCE(f->request.state)) == REQUEST_WAIT)
			f->request.sent = bpf_ktime_get_ns();
		return decision(ACTION_PASS, REASON_FLOW);
	}
	record_client_data(f, pkt);
	d = on_request(skb, pkt, n, f);
	if (d >> 32 == ACTION_PASS) {
		f->client_end = pkt->seq + pkt->payload;
		/* Bytes of a preface that were kept follow. */
		if (f->http1.preface && before(f->client_end, f->http1.request_end + f->http1.preface))
			f->client_end = f->http1.request_end + f->http1.preface;
	}
	return d;
}

/* superseded_syn handles a client that acknowledges the kernel's SYN-ACK although the backend has accepted a retransmission
 * of its SYN, because the circuit closed in between. The client's connection is the one with the kernel, so the flow is
 * removed. */
static __always_inline __u64 superseded_syn(struct packet *pkt, struct node_state *n, struct flow *f)
{
	struct lookup l;
	__u32 reason = lookup_target(f->target, &l) == LOOKUP_FOUND ? cookie_reason(n, l.circuit, pkt) : 0;

	if (!reason)
		return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
	pkt->target = f->target;
	close_flow(&pkt->key, f, RESULT_UNKNOWN, bpf_ktime_get_ns());
	return decision(TODO_COOKIE_PACKET, reason);
}

/* handle_ack records what the client has acknowledged, and ends a request whose response no hook has read. */
static __always_inline void handle_ack(const struct packet *pkt, struct flow *f)
{
	struct request *r = &f->request;
	__u64 state;

	record_client_ack(f, pkt);
	state = READ_ONCE(r->state);
	/* The client acknowledges more of the response than was read here. It acknowledges nothing beyond a gap, so this data
	 * will not be sent again. */
	if (request_state_of(state) == REQUEST_WAIT && before(f->backend_next, f->client_ack))
		end_request(&pkt->key, r, state, RESULT_UNKNOWN, bpf_ktime_get_ns());
}

/* http2_client_fin records a FIN once all data before it were read. The body of a request may still have gaps. */
static __always_inline void http2_client_fin(const struct packet *pkt, struct flow *f)
{
	bool sends = pkt->flags & TCP_FIN;
	__u32 fin = sends ? pkt->seq + pkt->payload : f->client_fin;

	if (!sends && !(f->flags & FLOW_CLIENT_FIN_AHEAD))
		return;
	if (client_read_to(f, fin))
		__sync_fetch_and_or(&f->flags, FLOW_CLIENT_FIN);
	else if (sends)
		record_client_fin(f, fin);
	if (f->flags & FLOW_CLIENT_FIN)
		record_client_left(f, bpf_ktime_get_ns());
}

/* client_fin handles a FIN of the client. The client may have closed only its direction; the request ends if it has waited
 * outcome.patience. */
static __always_inline void client_fin(const struct packet *pkt, struct flow *f, __u64 state)
{
	struct request *r = &f->request;
	__u64 now = bpf_ktime_get_ns();

	record_client_fin(f, pkt->seq + pkt->payload);
	if (request_state_of(state) == REQUEST_WAIT && f->flags & FLOW_CLIENT_FIN && client_left_result(r, now) == RESULT_ABANDONED)
		end_request(&pkt->key, r, state, result_if_seen(f, RESULT_ABANDONED), now);
}

/* after_client_data goes on with a packet whose data were decided about. */
static __always_inline void after_client_data(const struct packet *pkt, struct flow *f)
{
	struct request *r = &f->request;
	__u64 state = READ_ONCE(r->state);

	/* The client has acknowledged the response that came after its FIN. */
	if (request_state_of(state) == REQUEST_RESPONDED && !before(f->client_ack, f->backend_next))
		end_responded(&pkt->key, r, state, r->status);
	/* The client may have acknowledged a FIN of the backend that came ahead of a gap. */
	if (f->protocol == PROTOCOL_HTTP2) {
		close_after_backend_fin(f);
		http2_client_fin(pkt, f);
	} else if (pkt->flags & TCP_FIN) {
		client_fin(pkt, f, state);
	}
	close_if_finished(&pkt->key, f);
}

/* flow_packet decides about a packet of a followed connection, except SYNs. */
__noinline __u64 flow_packet(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 now, d = decision(ACTION_PASS, REASON_FLOW);
	struct request *r;

	if (!f || !pkt || !n)
		return 0;
	r = &f->request;
	if (pkt->flags & TCP_RST) {
		if (!client_reset_fits(f, pkt))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		now = bpf_ktime_get_ns();
		close_flow(&pkt->key, f, result_if_seen(f, client_left_result(r, now)), now);
		return d;
	}
	if (handshaking(phase_of(READ_ONCE(f->state)))) {
		d = complete_handshake(pkt, f);
		if (d == decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE))
			return superseded_syn(pkt, n, f);
		if (d != decision(ACTION_PASS, REASON_FLOW))
			return d;
	}
	f->last_seen = bpf_ktime_get_coarse_ns();
	handle_ack(pkt, f);
	if (is_new(f, pkt)) {
		d = client_data(skb, pkt, n, f);
		if (d >> 32 != ACTION_PASS)
			return d;
	}
	after_client_data(pkt, f);
	return d;
}

/* join_flow starts to follow a connection whose SYN was not seen, at data of its client. */
static __always_inline bool join_flow(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, const struct lookup *l)
{
	struct flow *f = blank_flow();

	if (!f)
		return false;
	f->state = PHASE_OPEN;
	f->last_seen = bpf_ktime_get_coarse_ns();
	f->flags = FLOW_JOINED;
	f->target = l->id;
	f->request.circuit = l->circuit_id;
	f->ingress_ifindex = skb->ingress_ifindex;
	f->egress_ifindex = skb->ifindex;
	f->client_end = pkt->seq;
	f->client_max = pkt->seq;
	f->acked = pkt->seq;
	f->client_ack = pkt->ack;
	f->backend_end = pkt->ack;
	f->backend_next = pkt->ack;
	f->protocol = l->policy->protocol;
	if (!create_flow(n, &pkt->key, f, false))
		return false;
	__sync_fetch_and_add(&l->target->connections, 1);
	return true;
}

/* untracked_packet decides about a packet of a connection that is not followed, except SYNs. */
__noinline __u64 untracked_packet(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct answered_flow *done;
	struct lookup l = {};
	__u32 reason;

	if (!n || !pkt)
		return 0;
	done = find_answered(&pkt->key);
	if (done)
		return answered_todo(done);
	if (find_kept(&pkt->key))
		return decision(TODO_HTTP2_KEPT, 0);
	reason = packet_target(skb, pkt, &l);
	if (reason != REASON_FLOW)
		return decision(ACTION_PASS, reason);
	pkt->target = l.id;
	if (l.policy->protocol == PROTOCOL_HTTP) {
		reason = cookie_reason(n, l.circuit, pkt);
		if (reason)
			return decision(TODO_COOKIE_PACKET, reason);
	}
	/* A bare ACK or FIN may be the last packet of a connection that was just removed, and must not create it again. */
	if (!pkt->payload || pkt->flags & (TCP_RST | TCP_FIN | TCP_SYN))
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (is_exempt(skb, pkt, l.policy, n, l.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	return join_flow(skb, pkt, n, &l) ? decision(TODO_FLOW, 0) : decision(ACTION_PASS, REASON_TABLE_FULL);
}

/* retransmission_may_pass reports whether a retransmitted SYN may pass. An expired handshake is not counted any more, so the
 * target must be below its connection limit. */
static __always_inline bool retransmission_may_pass(const struct flow *f)
{
	struct lookup l;

	if (phase_of(READ_ONCE(f->state)) != PHASE_EXPIRED || lookup_target(f->target, &l) != LOOKUP_FOUND)
		return true;
	return !l.policy->max_connections || READ_ONCE(l.target->connections) < l.policy->max_connections;
}

__noinline __u64 client_syn(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct lookup l = {};
	struct flow *f;
	__u32 reason;

	if (!n || !pkt)
		return 0;
	f = find_flow(&pkt->key);
	if (f) {
		if (is_syn_of(f, pkt->seq) && retransmission_may_pass(f)) {
			f->last_seen = bpf_ktime_get_coarse_ns();
			return decision(ACTION_PASS, REASON_FLOW); /* a retransmission of an admitted SYN */
		}
		/* The client uses the ports for a new connection, or the limit is reached: decide again. */
		close_flow(&pkt->key, f, result_if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
	}
	/* A retransmitted SYN of an answered connection. A new SYN removes the answered connection, even if no policy names the
	 * endpoint any more. */
	if (!f && answered_before(pkt))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	remove_answered(&pkt->key);
	reason = packet_target(skb, pkt, &l);
	if (reason != REASON_FLOW) {
		if (reason == REASON_FOREIGN)
			send_learn_event(skb, pkt, n, bpf_ktime_get_ns());
		return decision(ACTION_PASS, reason);
	}
	if (is_exempt(skb, pkt, l.policy, n, l.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	pkt->target = l.id;
	return new_connection(skb, pkt, n);
}

/* client_packet decides about a packet of a client, and sets flow if its connection is followed. */
static __always_inline __u64 client_packet(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow **flow)
{
	struct flow *f;
	__u64 d;

	if (is_syn(pkt))
		return client_syn(skb, pkt, n);
	f = find_flow(&pkt->key);
	if (!f) {
		d = untracked_packet(skb, pkt, n);
		if (d != decision(TODO_FLOW, 0))
			return d;
		f = find_flow(&pkt->key);
		if (!f)
			return decision(ACTION_PASS, REASON_UNTRACKED);
	}
	*flow = f;
	return flow_packet(skb, pkt, n, f);
}
