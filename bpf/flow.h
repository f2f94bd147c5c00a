/* The life of a followed connection. */
#pragma once

#include "outcome.h"
#include "sequence.h"

#define PHASE_MASK 0xffULL
#define TURN_STEP 0x100ULL

static __always_inline enum phase phase_of(__u64 turn)
{
	return turn & PHASE_MASK;
}

/* request_pending reports whether the outcome of a request is open. */
static __always_inline bool request_pending(enum phase phase)
{
	return phase == PHASE_WAIT || phase == PHASE_RESPONDED;
}

/* set_phase changes the phase unless another CPU did since turn was read. */
static __always_inline bool set_phase(struct flow *f, __u64 turn, enum phase to)
{
	return __sync_val_compare_and_swap(&f->turn, turn, ((turn & ~PHASE_MASK) + TURN_STEP) | to) == turn;
}

/* end_request ends the pending request, unless another CPU just did. The flow stays. */
static __always_inline bool end_request(const struct flow_key *key, struct flow *f, __u64 turn, enum phase to, __u32 result,
					__u64 now)
{
	struct completion done = {
		.began = f->started,
		.sent = f->sent,
		.now = now,
		.generation = f->generation,
		.permit = f->flags & FLOW_PERMIT,
		.result = result,
	};
	struct circuit *c;

	if (!set_phase(f, turn, to))
		return false;
	if (done.permit)
		__sync_fetch_and_and(&f->flags, ~(FLOW_PERMIT | FLOW_RESERVED));
	c = circuit_of(f->circuit);
	if (c)
		__sync_fetch_and_add(&c->requests, -1);
	record_completion(key, f->circuit, &done);
	return true;
}

/* client_left_result is the outcome of a pending request whose client has closed the connection. */
static __always_inline __u32 client_left_result(const struct flow *f, __u64 now)
{
	struct circuit *c = circuit_of(f->circuit);
	struct policy *p = c ? policy_of(c) : NULL;
	__u64 sent = READ_ONCE(f->sent), waited = now > sent ? now - sent : 0;

	if (f->flags & FLOW_RACED)
		return RESULT_RACED;
	return p && p->patience && waited >= p->patience ? RESULT_ABANDONED : RESULT_ABORTED;
}

/* end_responded ends a request whose response has come after the client's FIN, when it is known what the client made of it.
 * Its latency ends with the response. */
static __always_inline bool end_responded(const struct flow_key *key, struct flow *f, __u64 turn, __u32 result)
{
	return end_request(key, f, turn, PHASE_IDLE, result, f->responded);
}

/* Kernels before 6.2 refuse a map key that lies in an argument of a global function, as a packet does here: the
 * functions below copy it to a frame of their own. */
static __noinline struct flow *find_flow(const struct flow_key *key)
{
	struct flow_key k = *key;

	return bpf_map_lookup_elem(&flows, &k);
}

static __noinline long add_flow(const struct flow_key *key, const struct flow *init)
{
	struct flow_key k = *key;

	return bpf_map_update_elem(&flows, &k, init, BPF_NOEXIST);
}

static __noinline long forget_flow(const struct flow_key *key)
{
	struct flow_key k = *key;

	return bpf_map_delete_elem(&flows, &k);
}

static __noinline struct answered_flow *find_answered(const struct flow_key *key)
{
	struct flow_key k = *key;

	return bpf_map_lookup_elem(&answered, &k);
}

static __noinline void remember_answered(const struct flow_key *key, const struct answered_flow *done)
{
	struct flow_key k = *key;

	bpf_map_update_elem(&answered, &k, done, BPF_ANY);
}

static __noinline void forget_answered(const struct flow_key *key)
{
	struct flow_key k = *key;

	/* Looking takes no lock, which counts in a flood of SYNs. */
	if (bpf_map_lookup_elem(&answered, &k))
		bpf_map_delete_elem(&answered, &k);
}

/* answered_before reports whether a SYN is that of a connection whose request was answered from here. */
static __always_inline bool answered_before(const struct packet *pkt)
{
	struct answered_flow *done = find_answered(&pkt->key);

	return done && done->isn == pkt->seq;
}

/* close_flow ends whatever is pending with the given result, gives everything back and forgets the connection. */
__noinline int close_flow(const struct flow_key *key, struct flow *f, __u32 result, __u64 now)
{
	struct circuit *c;
	struct node_state *n = the_node();
	__u64 turn = 0;
	bool gone = false;

	if (!f || !key || !n)
		return 0;
	for (int i = 0; i < 8 && !gone; i++) {
		turn = READ_ONCE(f->turn);
		if (phase_of(turn) == PHASE_GONE)
			return 0;
		gone = set_phase(f, turn, PHASE_GONE);
	}
	if (!gone)
		return 0; /* the sweep finds it */

	c = circuit_of(f->circuit);
	if (c) {
		struct completion done = {
			.began = f->started,
			.sent = f->sent,
			.now = now,
			.generation = f->generation,
			.permit = f->flags & FLOW_PERMIT,
			.result = result,
		};

		if (phase_of(turn) == PHASE_RESPONDED && result != RESULT_ABORTED && result != RESULT_ABANDONED) {
			done.result = f->status;
			done.now = f->responded;
		}
		if (request_pending(phase_of(turn))) {
			__sync_fetch_and_add(&c->requests, -1);
			record_completion(key, f->circuit, &done);
		} else if (phase_of(turn) == PHASE_SYN) {
			record_completion(key, f->circuit, &done);
		} else if (f->flags & FLOW_RESERVED) {
			release_permit(c, f->generation, now, true);
			event_permit(n, key, f->circuit, f->generation, now, EVENT_RETURN);
		}
		if (phase_of(turn) != PHASE_EXPIRED)
			__sync_fetch_and_add(&c->connections, -1);
	}
	if (!forget_flow(key))
		__sync_fetch_and_add(&n->flow_count, -1);
	return 0;
}

/* handshake_answered moves a flow out of PHASE_SYN, unless another CPU just did. With tcp that is the outcome. */
static __always_inline bool handshake_answered(const struct flow_key *key, struct flow *f, __u64 turn, enum phase to)
{
	struct circuit *c = circuit_of(f->circuit);
	struct policy *p = c ? policy_of(c) : NULL;
	struct completion done = {
		.began = f->started,
		.sent = f->sent,
		.generation = f->generation,
		.permit = f->flags & FLOW_PERMIT,
		.result = RESULT_CONNECTED,
	};

	if (!set_phase(f, turn, to))
		return false;
	if (!p || p->protocol != PROTOCOL_TCP)
		return true;
	done.now = bpf_ktime_get_ns();
	__sync_fetch_and_and(&f->flags, ~FLOW_PERMIT);
	record_completion(key, f->circuit, &done);
	return true;
}

/* backend_syn_ack records the numbers of the backend's SYN-ACK. The connection is open at the client's ACK only. */
__noinline int backend_syn_ack(const struct flow_key *key, struct flow *f, __u32 seq)
{
	__u64 turn;

	if (!f || !key)
		return 0;
	turn = READ_ONCE(f->turn);
	if (phase_of(turn) != PHASE_SYN && phase_of(turn) != PHASE_EXPIRED)
		return 0;
	f->backend_end = seq + 1;
	f->client_ack = seq + 1;
	f->expected = seq + 1;
	f->response_end = seq + 1;
	f->response_framing = FRAMING_LENGTH;
	__sync_fetch_and_or(&f->flags, FLOW_ANSWERING);
	if (phase_of(turn) == PHASE_SYN)
		handshake_answered(key, f, turn, PHASE_ACCEPTED);
	return 0;
}

static __always_inline bool handshaking(enum phase phase)
{
	return phase == PHASE_SYN || phase == PHASE_ACCEPTED || phase == PHASE_EXPIRED;
}

/* A client's packet completes the handshake when it acknowledges the SYN-ACK. Where no hook here saw one, its own number
 * must be the next after the SYN's. */
static __always_inline bool completes_handshake(const struct flow *f, const struct packet *pkt)
{
	if (!(pkt->flags & TCP_ACK))
		return false;
	if (f->flags & FLOW_ANSWERING)
		return between(pkt->ack, f->client_ack, f->backend_end + 1);
	return between(pkt->seq, f->isn + 1, f->client_max);
}

/* create_flow makes an entry. held: it carries something that must be given back, and may use the reserve. */
static __always_inline struct flow *create_flow(struct node_state *n, const struct flow_key *key, const struct flow *init, bool held)
{
	__u64 max = held ? n->flow_max : n->flow_max - n->flow_reserve;

	if (READ_ONCE(n->flow_count) >= max || add_flow(key, init))
		return NULL;
	__sync_fetch_and_add(&n->flow_count, 1);
	return find_flow(key);
}

/* result_if_seen is the outcome of a request that got no response: unknown where no packet of the backend was seen. */
static __always_inline __u32 result_if_seen(const struct flow *f, __u32 result)
{
	return f->flags & FLOW_ANSWERING ? result : RESULT_UNKNOWN;
}

/* close_if_finished forgets a connection that both sides have closed, once no outcome is open any more. */
static __always_inline void close_if_finished(const struct flow_key *key, struct flow *f)
{
	__u32 both = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

	if ((READ_ONCE(f->flags) & both) == both && !request_pending(phase_of(READ_ONCE(f->turn))))
		close_flow(key, f, result_if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
}
