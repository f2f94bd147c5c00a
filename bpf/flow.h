/* Followed connections: lookup, creation, phases and removal. */
#pragma once

#include "http2.h"
#include "request.h"
#include "sequence.h"

static __always_inline enum phase phase_of(__u64 state)
{
	return state & STATE_MASK;
}

/* set_phase changes the phase. It fails if another CPU has changed it since state was read. */
static __always_inline bool set_phase(struct flow *f, __u64 state, enum phase to)
{
	return change_state(&f->state, state, to);
}

/* The verifier of kernels before 6.2 rejects a map key in an argument of a global function, such as pkt->key. The functions
 * below copy the key to their own stack frame. */
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

static __noinline long remove_flow(const struct flow_key *key)
{
	struct flow_key k = *key;

	return bpf_map_delete_elem(&flows, &k);
}

static __noinline struct answered_flow *find_answered(const struct flow_key *key)
{
	struct flow_key k = *key;

	return bpf_map_lookup_elem(&answered, &k);
}

/* KEEPING_TIME is how long an idle connection in kept is found without its entry in answered. Answers to HTTP/1.x may evict that
 * entry within seconds. */
#define KEEPING_TIME (3600ULL * 1000000000)

static __always_inline void extend_keeping(struct node_state *n, __u64 now)
{
	if (READ_ONCE(n->keeping_until) < now + KEEPING_TIME - 1000000000)
		*(volatile __u64 *)&n->keeping_until = now + KEEPING_TIME;
}

/* find_kept finds a connection that is kept, also without its entry in answered. The check of the time saves nodes without such
 * connections the lookup. */
static __noinline struct kept_connection *find_kept(const struct flow_key *key)
{
	struct node_state *n = the_node();
	struct flow_key k = *key;

	if (!n || bpf_ktime_get_coarse_ns() >= READ_ONCE(n->keeping_until))
		return NULL;
	return bpf_map_lookup_elem(&kept, &k);
}

static __noinline void store_answered(const struct flow_key *key, const struct answered_flow *done)
{
	struct flow_key k = *key;

	bpf_map_update_elem(&answered, &k, done, BPF_ANY);
}

static __noinline void remove_answered(const struct flow_key *key)
{
	struct flow_key k = *key;

	/* A lookup takes no lock, a deletion does: this matters in a flood of SYNs. */
	if (bpf_map_lookup_elem(&answered, &k))
		bpf_map_delete_elem(&answered, &k);
	if (find_kept(key))
		bpf_map_delete_elem(&kept, &k);
}

/* answered_todo returns the decision about a packet of an answered connection. */
static __always_inline __u64 answered_todo(const struct answered_flow *done)
{
	return decision(done->kept ? TODO_HTTP2_KEPT : TODO_ANSWERED_PACKET, 0);
}

/* answered_before reports whether a SYN is a retransmission for a connection that the kernel answered. */
static __always_inline bool answered_before(const struct packet *pkt)
{
	struct answered_flow *done = find_answered(&pkt->key);
	struct kept_connection *c;

	if (done)
		return done->isn == pkt->seq;
	c = find_kept(&pkt->key);
	return c && c->isn == pkt->seq;
}

/* return_reservation returns the reserved permit of a connection that has sent no request. */
static __always_inline void return_reservation(struct node_state *n, const struct flow_key *key, struct request *r, __u64 now)
{
	struct circuit *c = circuit_of(r->circuit);

	if (!c)
		return;
	release_permit(c, r->generation, now, true);
	event_permit(n, key, r->circuit, r->generation, now, EVENT_RETURN);
}

/* close_flow ends the pending request or attempt with the given result, releases all that the connection holds and removes it.
 * Only the CPU that sets PHASE_GONE does so. */
__noinline int close_flow(const struct flow_key *key, struct flow *f, __u32 result, __u64 now)
{
	struct node_state *n = the_node();
	struct request *r;
	struct target *t;
	__u64 state = 0;
	bool closed = false;

	if (!f || !key || !n)
		return 0;
	for (int i = 0; i < 8 && !closed; i++) {
		state = READ_ONCE(f->state);
		if (phase_of(state) == PHASE_GONE)
			return 0;
		closed = set_phase(f, state, PHASE_GONE);
	}
	if (!closed)
		return 0; /* the sweep closes it */

	r = &f->request;
	if (phase_of(state) == PHASE_SYN) {
		struct completion done = completion_of(r, result, now);

		record_completion(key, r->circuit, &done);
	} else if (!end_pending(key, r, result, now) && r->flags & REQUEST_RESERVED) {
		return_reservation(n, key, r, now);
	}
	if (f->protocol == PROTOCOL_HTTP2)
		close_http2(f, result, now);
	t = target_of(f->target);
	if (t && phase_of(state) != PHASE_EXPIRED)
		__sync_fetch_and_add(&t->connections, -1);
	if (!remove_flow(key))
		__sync_fetch_and_add(&n->flow_count, -1);
	return 0;
}

/* handshake_answered ends PHASE_SYN; it does nothing if another CPU has done so. Under a tcp policy this is the outcome. */
static __always_inline void handshake_answered(const struct flow_key *key, struct flow *f, __u64 state, enum phase to)
{
	struct completion done = completion_of(&f->request, RESULT_CONNECTED, 0);

	if (!set_phase(f, state, to) || f->protocol != PROTOCOL_TCP)
		return;
	done.now = bpf_ktime_get_ns();
	__sync_fetch_and_and(&f->request.flags, ~REQUEST_PERMIT);
	record_completion(key, f->request.circuit, &done);
}

static __always_inline bool handshaking(enum phase phase)
{
	return phase == PHASE_SYN || phase == PHASE_ACCEPTED || phase == PHASE_EXPIRED;
}

/* completes_handshake reports whether a packet of the client acknowledges the SYN-ACK. If no hook saw a SYN-ACK, its sequence
 * number must follow the SYN. */
static __always_inline bool completes_handshake(const struct flow *f, const struct packet *pkt)
{
	if (!(pkt->flags & TCP_ACK))
		return false;
	if (f->flags & FLOW_ANSWERING)
		return between(pkt->ack, f->client_ack, f->backend_end + 1);
	return between(pkt->seq, f->isn + 1, f->client_max);
}

/* blank_flow returns a zeroed buffer for the entry that create_flow adds. */
static __always_inline struct flow *blank_flow(void)
{
	__u32 zero = 0;
	struct flow *f = bpf_map_lookup_elem(&new_flow, &zero);

	if (f)
		__builtin_memset(f, 0, sizeof(*f));
	return f;
}

/* create_flow adds an entry. use_reserve: the flow holds a permit or a counted connection, and may use flow_reserve. */
static __always_inline bool create_flow(struct node_state *n, const struct flow_key *key, const struct flow *init, bool use_reserve)
{
	__u64 max = use_reserve ? n->flow_max : n->flow_max - n->flow_reserve;

	if (READ_ONCE(n->flow_count) >= max || add_flow(key, init))
		return false;
	__sync_fetch_and_add(&n->flow_count, 1);
	return true;
}

/* result_if_seen returns the outcome of a request without a response: unknown if no packet of the backend was seen, because
 * responses may take another path. */
static __always_inline __u32 result_if_seen(const struct flow *f, __u32 result)
{
	return f->flags & FLOW_ANSWERING ? result : RESULT_UNKNOWN;
}

/* close_if_finished removes a connection that both sides have closed, unless a request is pending. */
static __always_inline void close_if_finished(const struct flow_key *key, struct flow *f)
{
	__u32 both = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

	if ((READ_ONCE(f->flags) & both) == both && !request_pending(&f->request))
		close_flow(key, f, result_if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
}
