/* Packets on their way to a backend. */
#pragma once

#include "admit.h"
#include "destination.h"
#include "proxy.h"

/* complete_handshake opens the connection. A connection that took too long holds no place any more: it takes one again, or
 * both sides are reset. Returns what to do with the packet; REASON_FLOW: go on. */
__noinline __u64 complete_handshake(struct packet *pkt, struct flow *f)
{
	__u64 turn, go_on = decision(ACTION_PASS, REASON_FLOW);
	struct admission adm = {};
	struct circuit *c;
	struct policy *p;

	if (!f || !pkt)
		return 0;
	turn = READ_ONCE(f->turn);
	if (!handshaking(phase_of(turn)))
		return go_on;
	if (!completes_handshake(f, pkt))
		return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
	if (!(f->flags & FLOW_ANSWERING)) {
		f->client_ack = pkt->ack;
		f->backend_end = pkt->ack;
		f->response_end = pkt->ack;
		f->response_framing = FRAMING_LENGTH;
	}
	if (phase_of(turn) == PHASE_SYN) {
		handshake_answered(&pkt->key, f, turn, PHASE_IDLE);
		return go_on;
	}
	if (phase_of(turn) == PHASE_ACCEPTED) {
		set_phase(f, turn, PHASE_IDLE);
		return go_on;
	}
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return go_on;
	if (!reserve(&c->connections, p->max_connections)) {
		if (over_limit(c, &adm, REASON_CONNECTION_LIMIT, true)) {
			pkt->bare = 1;
			return decision(TODO_REJECT_REQUEST, adm.reason);
		}
		__sync_fetch_and_add(&c->connections, 1);
	}
	if (!set_phase(f, turn, PHASE_IDLE))
		__sync_fetch_and_add(&c->connections, -1);
	return go_on;
}

/* Where the last request has ended, another may begin: pkt->skip bytes into the payload. False: it goes on, or may. */
static __always_inline bool request_may_begin(struct packet *pkt, const struct flow *f)
{
	pkt->skip = 0;
	if (f->request_framing == FRAMING_CHUNKED)
		return f->request_end == pkt->seq && ends_chunks(f->client_tail);
	if (f->request_framing == FRAMING_LENGTH && before(pkt->seq, f->request_end))
		pkt->skip = f->request_end - pkt->seq;
	return pkt->skip < pkt->payload;
}

/* first_bytes counts what a connection begins with that is no request, and looks behind a PROXY header for one. */
static __always_inline enum method first_bytes(struct __sk_buff *skb, struct packet *pkt, struct flow *f)
{
	struct circuit *c = circuit_of(f->circuit);
	__u32 len = proxy_header(skb, pkt), what = len ? OPENING_PROXY : opening_of(skb, pkt);

	if (c)
		__sync_fetch_and_add(&c->openings[what & (OPENING_MAX - 1)], 1);
	if (!len)
		return METHOD_NONE;
	f->request_end = pkt->seq + len;
	if (len >= pkt->payload)
		return METHOD_NONE;
	pkt->skip = len;
	return method(skb, pkt);
}

/* Data while no response is awaited: a request, or what is left of a body whose response came early. */
__noinline __u64 http_data(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 d = decision(ACTION_PASS, REASON_FLOW);
	struct message m;
	enum method kind;
	struct circuit *c;
	struct policy *p;
	__u32 reason;

	if (!f || !pkt || !n)
		return 0;
	if (request_may_begin(pkt, f)) {
		kind = method(skb, pkt);
		if (kind == METHOD_NONE && pkt->seq == f->isn + 1 && !(f->flags & FLOW_JOINED))
			kind = first_bytes(skb, pkt, f);
		if (kind == METHOD_NONE)
			return d;
		d = new_request(pkt, n, f, kind);
		if (d >> 32 == ACTION_PASS) {
			read_head(skb, pkt, pkt->skip, BODY_NAMED, &m);
			f->request_end = m.end;
			f->request_framing = m.framing;
			f->client_tail = 0;
		}
		return d;
	}
	pkt->skip = 0;
	if (f->request_framing != FRAMING_CHUNKED || method(skb, pkt) == METHOD_NONE)
		return d;
	/* A chunk, or a request after trailers. Nothing passes an open circuit because that cannot be told. */
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	reason = p && p->existing ? surely_rejected(c, n, bpf_ktime_get_ns()) : REASON_FLOW;
	if (reason != REASON_FLOW) {
		pkt->bare = 1;
		return decision(TODO_REJECT_REQUEST, reason);
	}
	__sync_fetch_and_or(&f->flags, FLOW_DOUBT);
	return d;
}

/* New data of the client, or what is still unknown of it. */
__noinline __u64 client_data(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 turn, d = decision(ACTION_PASS, REASON_FLOW);
	struct circuit *c;
	struct policy *p;

	if (!f || !pkt || !n)
		return 0;
	turn = READ_ONCE(f->turn);
	/* After a gap only what the backend has acknowledged up to here is in order. */
	if (pkt->seq != f->client_end && before(f->acked, pkt->seq)) {
		if (!acknowledges_backend(f, pkt))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		note_client_data(f, pkt);
		if (phase_of(turn) == PHASE_WAIT)
			f->sent = bpf_ktime_get_ns();
		return d;
	}
	note_client_data(f, pkt);
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	if (p && p->protocol == PROTOCOL_HTTP) {
		if (phase_of(turn) == PHASE_IDLE)
			d = http_data(skb, pkt, n, f);
		else if (phase_of(turn) == PHASE_WAIT)
			f->sent = bpf_ktime_get_ns(); /* the backend has yet to get it all */
	} else if (p && p->existing) {
		d = existing_connection(c, n, f);
	}
	if (d >> 32 != ACTION_PASS)
		return d;
	if (f->request_framing == FRAMING_CHUNKED) {
		f->client_tail = tail_after(skb, pkt, f->client_tail, pkt->seq != f->request_end);
		f->request_end = pkt->seq + pkt->payload;
	}
	f->client_end = pkt->seq + pkt->payload;
	return d;
}

/* A SYN that was answered may come again after the circuit has closed: the backend accepts what its client has with us.
 * What the client acknowledges tells. */
static __always_inline __u64 superseded_syn(struct packet *pkt, struct node_state *n, struct flow *f)
{
	struct circuit *c = circuit_of(f->circuit);
	__u32 reason = c ? cookie_reason(n, c, pkt) : 0;

	if (!reason)
		return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
	pkt->circuit = f->circuit;
	close_flow(&pkt->key, f, RESULT_UNKNOWN, bpf_ktime_get_ns());
	return decision(TODO_COOKIE_PACKET, reason);
}

/* A packet of a followed connection, SYNs excepted. */
__noinline __u64 flow_packet(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 now, turn, d = decision(ACTION_PASS, REASON_FLOW);

	if (!f || !pkt || !n)
		return 0;
	if (pkt->flags & TCP_RST) {
		if (!client_reset_fits(f, pkt))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		now = bpf_ktime_get_ns();
		close_flow(&pkt->key, f, result_if_seen(f, client_left_result(f, now)), now);
		return d;
	}
	if (handshaking(phase_of(READ_ONCE(f->turn)))) {
		d = complete_handshake(pkt, f);
		if (d == decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE))
			return superseded_syn(pkt, n, f);
		if (d != decision(ACTION_PASS, REASON_FLOW))
			return d;
	}
	f->seen = bpf_ktime_get_coarse_ns();
	note_client_ack(f, pkt);
	turn = READ_ONCE(f->turn);
	/* The client has more of the response than was seen here: what it got ahead of a gap is not sent again. */
	if (phase_of(turn) == PHASE_WAIT && before(f->expected, f->client_ack))
		end_request(&pkt->key, f, turn, PHASE_IDLE, RESULT_UNKNOWN, bpf_ktime_get_ns());
	/* What ends before is a retransmission, or was seen on another interface. */
	if (pkt->payload && before(f->client_end, pkt->seq + pkt->payload)) {
		d = client_data(skb, pkt, n, f);
		if (d >> 32 != ACTION_PASS)
			return d;
	}
	turn = READ_ONCE(f->turn);
	/* The client takes the response that came after its FIN. */
	if (phase_of(turn) == PHASE_RESPONDED && !before(f->client_ack, f->expected))
		end_responded(&pkt->key, f, turn, f->status);
	if (pkt->flags & TCP_FIN) {
		note_client_fin(f, pkt->seq + pkt->payload);
		now = bpf_ktime_get_ns();
		/* It may have closed one direction only, unless it has lost patience. */
		if (phase_of(turn) == PHASE_WAIT && f->flags & FLOW_CLIENT_FIN && client_left_result(f, now) == RESULT_ABANDONED)
			end_request(&pkt->key, f, turn, PHASE_IDLE, result_if_seen(f, RESULT_ABANDONED), now);
	}
	close_if_finished(&pkt->key, f);
	return d;
}

/* A packet of no followed connection, SYNs excepted. */
__noinline __u64 untracked_packet(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct flow init = {};
	struct target t = {};
	__u32 reason;

	if (!n || !pkt)
		return 0;
	if (find_answered(&pkt->key))
		return decision(TODO_ANSWERED_PACKET, 0);
	reason = packet_target(skb, pkt, &t);
	if (reason != REASON_FLOW)
		return decision(ACTION_PASS, reason);
	pkt->circuit = t.id;
	if (t.policy->protocol == PROTOCOL_HTTP) {
		reason = cookie_reason(n, t.circuit, pkt);
		if (reason)
			return decision(TODO_COOKIE_PACKET, reason);
	}
	/* A bare ACK or FIN may be the last of a connection that was just forgotten: it must not bring it back. */
	if (!pkt->payload || pkt->flags & (TCP_RST | TCP_FIN | TCP_SYN))
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (exempt(skb, pkt, t.policy, n, t.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	init.turn = PHASE_IDLE;
	init.seen = bpf_ktime_get_coarse_ns();
	init.circuit = t.id;
	init.entered = skb->ingress_ifindex;
	init.leaves = skb->ifindex;
	init.client_end = pkt->seq;
	init.client_max = pkt->seq;
	init.acked = pkt->seq;
	init.client_ack = pkt->ack;
	init.backend_end = pkt->ack;
	init.expected = pkt->ack;
	init.flags = FLOW_JOINED;
	if (!create_flow(n, &pkt->key, &init, false))
		return decision(ACTION_PASS, REASON_TABLE_FULL);
	__sync_fetch_and_add(&t.circuit->connections, 1);
	return decision(TODO_FLOW, 0);
}

/* A connection whose time ran out gave its place back. While others fill all places it may not go on. */
static __always_inline bool has_place(const struct flow *f)
{
	struct circuit *c;
	struct policy *p;

	if (phase_of(READ_ONCE(f->turn)) != PHASE_EXPIRED)
		return true;
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	return !p || !p->max_connections || READ_ONCE(c->connections) < p->max_connections;
}

__noinline __u64 client_syn(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct target t = {};
	struct flow *f;
	__u32 reason;

	if (!n || !pkt)
		return 0;
	f = find_flow(&pkt->key);
	if (f) {
		if (f->isn == pkt->seq && !(f->flags & FLOW_JOINED) && has_place(f)) {
			f->seen = bpf_ktime_get_coarse_ns();
			return decision(ACTION_PASS, REASON_FLOW); /* a retransmission: admitted already */
		}
		/* The ports are used again: the old connection is over. Or it is asked anew whether this one may be. */
		close_flow(&pkt->key, f, result_if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
	}
	/* The SYN of a connection that was answered, once more. A new one ends what is known of the old, also where it is
	 * nobody's business any more. */
	if (!f && answered_before(pkt))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	forget_answered(&pkt->key);
	reason = packet_target(skb, pkt, &t);
	if (reason != REASON_FLOW) {
		if (reason == REASON_FOREIGN)
			learn(skb, pkt, n, bpf_ktime_get_ns());
		return decision(ACTION_PASS, reason);
	}
	if (exempt(skb, pkt, t.policy, n, t.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	pkt->circuit = t.id;
	return new_connection(skb, pkt, n);
}

/* client_packet decides about a packet of a client, and sets flow when its connection is followed. */
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
