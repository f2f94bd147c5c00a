/* The end of what no packet ends: requests that hang, SYNs that nobody answers, connections whose end was not seen. */
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

static __always_inline void note_due(struct sweep *s, const struct flow *f, __u64 timeout)
{
	if (timeout)
		due_at(s, f->sent + timeout);
}

static __always_inline void note_pending(struct circuit *c, struct flow *f, const struct sweep *s)
{
	/* Only one sweep runs at a time, and nothing else writes these. */
	if (f->generation != generation_of(verdict_of(c), s->now))
		return;
	if (c->pending_sweep != s->number || f->sent < c->pending_since)
		c->pending_since = f->sent;
	c->pending_sweep = s->number;
}

/* expire_handshake gives back what a connection holds that its client has not completed. */
static __always_inline void expire_handshake(const struct flow_key *key, struct flow *f, __u64 turn, __u64 now)
{
	struct node_state *n = the_node();
	struct circuit *c = circuit_of(f->circuit);
	__u32 flags;

	if (!c || !n || !set_phase(f, turn, PHASE_EXPIRED))
		return;
	flags = __sync_fetch_and_and(&f->flags, ~(FLOW_PERMIT | FLOW_RESERVED));
	if (flags & FLOW_RESERVED) {
		release_permit(c, f->generation, now, true);
		event_permit(n, key, f->circuit, f->generation, now, EVENT_RETURN);
	}
	__sync_fetch_and_add(&c->connections, -1);
}

static long sweep_flow(void *map, struct flow_key *key, struct flow *f, struct sweep *s)
{
	struct flow_key k = *key;
	struct circuit *c = circuit_of(f->circuit);
	__u64 turn = READ_ONCE(f->turn), age, silent, handshake;
	struct policy *p;
	__u32 closing = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

	s->flows++;
	if (!c)
		return 0;
	p = policy_of(c);
	if (!p) {
		/* Its circuit is released: another backend may have its place next. */
		close_flow(&k, f, RESULT_UNKNOWN, s->now);
		s->flows--;
		return 0;
	}
	/* Packets go on while this runs: what is younger than the sweep has age 0. */
	age = s->now > f->sent ? s->now - f->sent : 0;
	silent = s->now > f->seen ? s->now - f->seen : 0;
	handshake = p->connect_timeout ?: HANDSHAKE_FOR;

	if (s->gone && (f->entered == s->gone || f->leaves == s->gone)) {
		/* Its end cannot be seen any more. */
		close_flow(&k, f, RESULT_UNKNOWN, s->now);
		s->flows--;
		return 0;
	}
	switch (phase_of(turn)) {
	case PHASE_GONE:
		return 0;
	case PHASE_WAIT:
		if (p->timeout && age >= p->timeout)
			end_request(&k, f, turn, PHASE_IDLE, result_if_seen(f, f->flags & FLOW_RACED ? RESULT_RACED : RESULT_TIMEOUT), s->now);
		else if (!p->timeout && silent > s->idle)
			break;
		else {
			note_pending(c, f, s);
			note_due(s, f, p->timeout);
		}
		if (f->flags & FLOW_BACKEND_FIN)
			close_if_finished(&k, f);
		return 0;
	case PHASE_RESPONDED:
		/* A RST would have come by now. */
		if (s->now - f->responded >= REACTION_FOR)
			end_responded(&k, f, turn, f->status);
		else
			due_at(s, f->responded + REACTION_FOR);
		return 0;
	case PHASE_SYN:
		if (p->connect_timeout && age >= p->connect_timeout) {
			end_attempt(&k, f, turn, RESULT_CONNECT_TIMEOUT, s->now);
			return 0;
		}
		if (silent <= EXPIRED_FOR) {
			/* The request behind it waits as well. */
			note_pending(c, f, s);
			note_due(s, f, p->connect_timeout);
			return 0;
		}
		break;
	case PHASE_ACCEPTED:
		if (age < handshake) {
			note_due(s, f, handshake);
			return 0;
		}
		/* The backend did its part: no outcome. */
		expire_handshake(&k, f, turn, s->now);
		return 0;
	case PHASE_EXPIRED:
		if (silent <= EXPIRED_FOR)
			return 0;
		break;
	default:
		if (silent <= (f->flags & closing ? HALF_CLOSED_FOR : s->idle))
			return 0;
	}
	close_flow(&k, f, RESULT_UNKNOWN, s->now);
	s->flows--;
	return 0;
}
