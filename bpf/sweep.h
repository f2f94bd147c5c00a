/* The periodic sweep over the flows. It times out requests and SYNs without a reply, and removes connections whose end no hook
 * has seen. */
#pragma once

#include "attempt.h"
#include "stream.h"

#define SECOND 1000000000ULL

/* Linux waits at most 64 s between two SYNs of one connect(). */
#define EXPIRED_TIMEOUT (70 * SECOND)
/* Time-out of a handshake if the policy has no connect timeout. Linux retransmits a SYN-ACK for 63 s. */
#define HANDSHAKE_TIMEOUT (75 * SECOND)
/* Time to wait for the RST with which a closed client replies to a response, with one or two retransmissions. */
#define REACTION_TIMEOUT (2 * SECOND)
/* Time-out of a connection that one side has closed. FIN_WAIT2 lasts 60 s on Linux. */
#define HALF_CLOSED_TIMEOUT (120 * SECOND)

struct sweep {
	__u64 now;
	__u64 idle;
	__u64 removed_ifindex;
	__u64 number;
	__u64 flows;
	__u64 due;
};

static __always_inline void set_due(struct sweep *s, __u64 due)
{
	if (!s->due || due < s->due)
		s->due = due;
}

static __always_inline void set_due_after(struct sweep *s, const struct request *r, __u64 timeout)
{
	if (timeout)
		set_due(s, r->sent + timeout);
}

/* record_pending records the oldest pending request of the generation in force, for the pending age of the circuit. */
static __always_inline void record_pending(const struct request *r, const struct sweep *s)
{
	struct circuit *c = circuit_of(r->circuit);

	/* Plain stores are safe: only one sweep runs at a time, and only the sweep writes these fields. */
	if (!c || r->generation != generation_of(verdict_of(c), s->now))
		return;
	if (c->pending_sweep != s->number || r->sent < c->pending_since)
		c->pending_since = r->sent;
	c->pending_sweep = s->number;
}

/* expire_handshake releases what a connection holds whose client has not completed the handshake. */
static __always_inline void expire_handshake(const struct flow_key *key, struct flow *f, __u64 state, __u64 now)
{
	struct node_state *n = the_node();
	struct target *t = target_of(f->target);
	__u32 flags;

	if (!t || !n || !set_phase(f, state, PHASE_EXPIRED))
		return;
	flags = __sync_fetch_and_and(&f->request.flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	if (flags & REQUEST_RESERVED)
		return_reservation(n, key, &f->request, now);
	__sync_fetch_and_add(&t->connections, -1);
}

/* age_of returns the time since a moment, at least 0: packets that arrive during the sweep are later than s->now. */
static __always_inline __u64 age_of(const struct sweep *s, __u64 since)
{
	return s->now > since ? s->now - since : 0;
}

/* sweep_request ends a request that has timed out. It returns false if the connection is idle and is to be removed. */
static __always_inline bool sweep_request(const struct flow_key *key, struct flow *f, const struct policy *p, struct sweep *s)
{
	struct request *r = &f->request;
	__u64 state = READ_ONCE(r->state);

	if (request_state_of(state) == REQUEST_RESPONDED) {
		if (age_of(s, r->responded) < REACTION_TIMEOUT) {
			set_due(s, r->responded + REACTION_TIMEOUT);
			return true;
		}
		/* No RST of the client has arrived within REACTION_TIMEOUT. */
		end_responded(key, r, state, r->status);
	} else if (p->timeout && age_of(s, r->sent) >= p->timeout) {
		end_request(key, r, state, result_if_seen(f, r->flags & REQUEST_RACED ? RESULT_RACED : RESULT_TIMEOUT), s->now);
	} else if (!p->timeout && age_of(s, f->last_seen) > s->idle) {
		return false;
	} else {
		record_pending(r, s);
		set_due_after(s, r, p->timeout);
	}
	if (f->flags & FLOW_BACKEND_FIN)
		close_if_finished(key, f);
	return true;
}

/* sweep_handshake ends an attempt or a handshake that has timed out. It returns false if the connection is to be removed. */
static __always_inline bool sweep_handshake(const struct flow_key *key, struct flow *f, __u64 state, const struct policy *p,
					    struct sweep *s)
{
	__u64 age = age_of(s, f->request.sent), handshake = p->connect_timeout ?: HANDSHAKE_TIMEOUT;
	bool silent = age_of(s, f->last_seen) > EXPIRED_TIMEOUT;

	if (phase_of(state) == PHASE_EXPIRED)
		return !silent;
	if (phase_of(state) == PHASE_ACCEPTED) {
		/* The backend has replied, so a client that does not complete the handshake is no outcome. */
		if (age >= handshake)
			expire_handshake(key, f, state, s->now);
		else
			set_due_after(s, &f->request, handshake);
		return true;
	}
	if (p->connect_timeout && age >= p->connect_timeout) {
		end_attempt(key, f, state, RESULT_CONNECT_TIMEOUT, s->now);
		return true;
	}
	if (silent)
		return false;
	/* The first request of the connection waits as well. */
	record_pending(&f->request, s);
	set_due_after(s, &f->request, p->connect_timeout);
	return true;
}

/* keep_flow ends what has timed out on a connection, and reports whether the connection stays. */
static __always_inline bool keep_flow(const struct flow_key *key, struct flow *f, const struct policy *p, struct sweep *s)
{
	__u64 state = READ_ONCE(f->state);
	bool half_closed = f->flags & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN);

	/* No hook sees the end of a connection through a removed interface. */
	if (s->removed_ifindex && (f->ingress_ifindex == s->removed_ifindex || f->egress_ifindex == s->removed_ifindex))
		return false;
	if (phase_of(state) == PHASE_GONE)
		return true;
	if (handshaking(phase_of(state)))
		return sweep_handshake(key, f, state, p, s);
	if (request_pending(&f->request))
		return sweep_request(key, f, p, s);
	return age_of(s, f->last_seen) <= (half_closed ? HALF_CLOSED_TIMEOUT : s->idle);
}

static long sweep_flow(void *map, struct flow_key *key, struct flow *f, struct sweep *s)
{
	struct flow_key k = *key;
	struct target *t = target_of(f->target);
	struct policy *p;

	s->flows++;
	if (!t)
		return 0;
	p = policy_of(t);
	/* A target without a policy is released, and its index may be used for another backend. */
	if (p && keep_flow(&k, f, p, s))
		return 0;
	close_flow(&k, f, RESULT_UNKNOWN, s->now);
	s->flows--;
	return 0;
}

/* followed reports whether all frames were read that could say something of a stream. */
static __always_inline bool followed(const struct http2_connection *c, const struct stream *st)
{
	return st->epoch == READ_ONCE(c->epoch) && c->client.phase < FRAMES_LOST && c->backend.phase < FRAMES_LOST;
}

/* closed_result returns the outcome of a stream that was pending when its connection ended. */
static __always_inline __u32 closed_result(const struct http2_connection *c, const struct stream *st)
{
	const struct request *r = &st->request;

	if (!followed(c, st))
		return RESULT_UNKNOWN;
	switch (c->closer) {
	case CLOSER_CLIENT:
		return client_left_stream(st, c->closed);
	case CLOSER_BACKEND:
		/* The request may have crossed the backend's FIN on a used connection. */
		return c->used && !(st->flags & STREAM_RESPONDED) && !before(r->start, c->acked) ? RESULT_RACED : RESULT_RESET;
	default:
		return RESULT_UNKNOWN;
	}
}

/* time_out_stream ends the request of a stream that gets no response headers in time. The backend may still end the stream. */
static __always_inline void time_out_stream(struct http2_connection *c, struct stream *st, struct sweep *s)
{
	struct request *r = &st->request;
	struct circuit *circuit = circuit_of(r->circuit);
	struct policy *p = circuit ? judging_policy(circuit) : NULL;
	struct flow *f;

	if (!p || request_state_of(READ_ONCE(r->state)) != REQUEST_WAIT || st->flags & STREAM_RESPONDED)
		return;
	if (p->timeout && age_of(s, r->sent) >= p->timeout) {
		f = find_flow(&st->key);
		end_stream(c, st, f && followed(c, st) && !frames_unread(f, c) ? RESULT_TIMEOUT : RESULT_UNKNOWN, s->now);
		return;
	}
	if (followed(c, st))
		record_pending(r, s);
	set_due_after(s, r, p->timeout);
}

static long sweep_stream(void *map, struct stream_key *key, struct stream *st, struct sweep *s)
{
	struct http2_connection *c = bpf_map_lookup_elem(&http2_connections, &key->connection);
	struct stream_key k = *key;

	if (!c) {
		end_stream(NULL, st, RESULT_UNKNOWN, s->now);
		bpf_map_delete_elem(&streams, &k);
	} else if (k.stream > c->goaway) {
		end_stream(c, st, RESULT_RACED, s->now);
		remove_stream(c, k.connection, k.stream);
	} else if (st->epoch != READ_ONCE(c->epoch)) {
		end_stream(c, st, RESULT_UNKNOWN, s->now);
		remove_stream(c, k.connection, k.stream);
	} else if (READ_ONCE(c->closed)) {
		end_stream(c, st, closed_result(c, st), c->closed);
		remove_stream(c, k.connection, k.stream);
	} else if (READ_ONCE(c->client_left) && client_left_stream(st, c->client_left) == RESULT_ABANDONED) {
		/* A client that waited less may have closed one direction only. */
		end_stream(c, st, RESULT_ABANDONED, c->client_left);
	} else {
		time_out_stream(c, st, s);
	}
	return 0;
}

/* Time after which no program uses a connection that has ended: the memory of its entry may be used again at once. */
#define CLOSED_TIMEOUT SECOND

static long sweep_http2(void *map, __u64 *key, struct http2_connection *c, struct sweep *s)
{
	struct node_state *n = the_node();
	__u64 k = *key;

	if (!n || !c->closed || c->streams || age_of(s, c->closed) < CLOSED_TIMEOUT)
		return 0;
	if (!bpf_map_delete_elem(&http2_connections, &k))
		__sync_fetch_and_add(&n->http2_count, -1);
	return 0;
}
