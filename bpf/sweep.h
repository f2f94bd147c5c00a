/* The periodic sweep over the flows: it times out requests and SYNs that get no reply, and forgets connections whose end was
 * not seen. */
#pragma once

#include "attempt.h"

#define SECOND 1000000000ULL

/* The longest pause between two SYNs of one connect() is 64 s on Linux. */
#define EXPIRED_FOR (70 * SECOND)
/* How long a handshake holds a place without a connect timeout. Linux repeats a SYN-ACK for 63 s. */
#define HANDSHAKE_FOR (75 * SECOND)
/* A client that is gone answers the response with a RST, after a retransmission or two where packets are lost. */
#define REACTION_FOR (2 * SECOND)
/* One side has closed and the other says nothing: FIN_WAIT2 lasts 60 s on Linux. */
#define HALF_CLOSED_FOR (120 * SECOND)

struct sweep {
	__u64 now;
	__u64 idle;
	__u64 gone;
	__u64 number;
	__u64 flows;
	__u64 due;
};

static __always_inline void due_at(struct sweep *s, __u64 due)
{
	if (!s->due || due < s->due)
		s->due = due;
}

static __always_inline void due_after(struct sweep *s, const struct request *r, __u64 timeout)
{
	if (timeout)
		due_at(s, r->sent + timeout);
}

static __always_inline void note_pending(const struct request *r, const struct sweep *s)
{
	struct circuit *c = circuit_of(r->circuit);

	/* Only one sweep runs at a time, and nothing else writes these. */
	if (!c || r->generation != generation_of(verdict_of(c), s->now))
		return;
	if (c->pending_sweep != s->number || r->sent < c->pending_since)
		c->pending_since = r->sent;
	c->pending_sweep = s->number;
}

/* expire_handshake gives back what a connection holds that its client has not completed. */
static __always_inline void expire_handshake(const struct flow_key *key, struct flow *f, __u64 turn, __u64 now)
{
	struct node_state *n = the_node();
	struct target *t = target_of(f->target);
	__u32 flags;

	if (!t || !n || !set_phase(f, turn, PHASE_EXPIRED))
		return;
	flags = __sync_fetch_and_and(&f->request.flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	if (flags & REQUEST_RESERVED)
		return_reservation(n, key, &f->request, now);
	__sync_fetch_and_add(&t->connections, -1);
}

/* age_of is the time since a moment. Packets go on while the sweep runs: what is younger than the sweep has age 0. */
static __always_inline __u64 age_of(const struct sweep *s, __u64 since)
{
	return s->now > since ? s->now - since : 0;
}

/* sweep_request ends a request that has timed out. False: the whole connection has been silent for too long. */
static __always_inline bool sweep_request(const struct flow_key *key, struct flow *f, const struct policy *p, struct sweep *s)
{
	struct request *r = &f->request;
	__u64 turn = READ_ONCE(r->turn);

	if (state_of(turn) == REQUEST_RESPONDED) {
		/* A RST would have come by now. */
		if (s->now - r->responded >= REACTION_FOR)
			end_responded(key, r, turn, r->status);
		else
			due_at(s, r->responded + REACTION_FOR);
		return true;
	}
	if (p->timeout && age_of(s, r->sent) >= p->timeout) {
		end_request(key, r, turn, result_if_seen(f, r->flags & REQUEST_RACED ? RESULT_RACED : RESULT_TIMEOUT), s->now);
	} else if (!p->timeout && age_of(s, f->seen) > s->idle) {
		return false;
	} else {
		note_pending(r, s);
		due_after(s, r, p->timeout);
	}
	if (f->flags & FLOW_BACKEND_FIN)
		close_if_finished(key, f);
	return true;
}

/* sweep_handshake ends an attempt or a handshake that takes too long. False: the whole connection is to be forgotten. */
static __always_inline bool sweep_handshake(const struct flow_key *key, struct flow *f, __u64 turn, const struct policy *p,
					    struct sweep *s)
{
	__u64 age = age_of(s, f->request.sent), handshake = p->connect_timeout ?: HANDSHAKE_FOR;
	bool silent = age_of(s, f->seen) > EXPIRED_FOR;

	if (phase_of(turn) == PHASE_EXPIRED)
		return !silent;
	if (phase_of(turn) == PHASE_ACCEPTED) {
		/* The backend did its part: no outcome. */
		if (age >= handshake)
			expire_handshake(key, f, turn, s->now);
		else
			due_after(s, &f->request, handshake);
		return true;
	}
	if (p->connect_timeout && age >= p->connect_timeout) {
		end_attempt(key, f, turn, RESULT_CONNECT_TIMEOUT, s->now);
		return true;
	}
	if (silent)
		return false;
	/* The request behind it waits as well. */
	note_pending(&f->request, s);
	due_after(s, &f->request, p->connect_timeout);
	return true;
}

/* keep_flow reports whether a connection stays, after ending what has timed out on it. */
static __always_inline bool keep_flow(const struct flow_key *key, struct flow *f, const struct policy *p, struct sweep *s)
{
	__u64 turn = READ_ONCE(f->turn);
	bool half_closed = f->flags & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN);

	/* The end of what went through an interface that is gone cannot be seen any more. */
	if (s->gone && (f->entered == s->gone || f->leaves == s->gone))
		return false;
	if (phase_of(turn) == PHASE_GONE)
		return true;
	if (handshaking(phase_of(turn)))
		return sweep_handshake(key, f, turn, p, s);
	if (request_pending(&f->request))
		return sweep_request(key, f, p, s);
	return age_of(s, f->seen) <= (half_closed ? HALF_CLOSED_FOR : s->idle);
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
	/* Without a policy its target is released: another backend may have its place next. */
	if (p && keep_flow(&k, f, p, s))
		return 0;
	close_flow(&k, f, RESULT_UNKNOWN, s->now);
	s->flows--;
	return 0;
}
