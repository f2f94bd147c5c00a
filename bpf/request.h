/* A pending request. It begins at its admission and ends once, with one outcome. */
#pragma once

#include "outcome.h"

/* A state word, changed by compare-and-swap: the state in the low byte, a count of changes above it. The count detects a state
 * that changed and changed back. */
#define STATE_MASK 0xffULL
#define CHANGE_STEP 0x100ULL

/* change_state changes the state in a word. It fails if another CPU has changed the word since state was read. */
static __always_inline bool change_state(__u64 *word, __u64 state, __u32 to)
{
	return __sync_val_compare_and_swap(word, state, ((state & ~STATE_MASK) + CHANGE_STEP) | to) == state;
}

static __always_inline enum request_state request_state_of(__u64 state)
{
	return state & STATE_MASK;
}

/* request_pending reports whether a request has no outcome yet. */
static __always_inline bool request_pending(const struct request *r)
{
	return request_state_of(READ_ONCE(r->state)) != REQUEST_NONE;
}

static __always_inline struct completion completion_of(const struct request *r, __u32 result, __u64 now)
{
	struct completion done = {
		.began = r->started,
		.sent = r->sent,
		.now = now,
		.generation = r->generation,
		.permit = r->flags & REQUEST_PERMIT,
		.result = result,
	};

	return done;
}

/* end_request records the outcome of a pending request and releases its permit and its count in circuit.requests. It fails if
 * another CPU has changed the request since state was read. */
static __always_inline bool end_request(const struct flow_key *key, struct request *r, __u64 state, __u32 result, __u64 now)
{
	struct completion done = completion_of(r, result, now);
	__u32 circuit = r->circuit;

	done.request = 1;
	if (!change_state(&r->state, state, REQUEST_NONE))
		return false;
	if (done.permit)
		__sync_fetch_and_and(&r->flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	record_completion(key, circuit, &done);
	return true;
}

/* end_responded ends a request whose response came after the client's FIN, once it is known whether the client accepted the
 * response. Its latency ends with the response. */
static __always_inline bool end_responded(const struct flow_key *key, struct request *r, __u64 state, __u32 result)
{
	return end_request(key, r, state, result, r->responded);
}

/* hold_response defers the outcome of a request whose client has sent a FIN: the client may reply to the response with a
 * RST. */
static __always_inline void hold_response(struct request *r, __u64 state, __u32 status, __u64 now)
{
	r->status = status;
	r->responded = now;
	change_state(&r->state, state, REQUEST_RESPONDED);
}

/* end_pending ends the request of a connection that closes. It returns false if none is pending. Three tries suffice: a state
 * only advances, so at most two changes by other CPUs precede. */
static __always_inline bool end_pending(const struct flow_key *key, struct request *r, __u32 result, __u64 now)
{
	for (int i = 0; i < 3; i++) {
		__u64 state = READ_ONCE(r->state), at = now;
		__u32 outcome = result;

		if (request_state_of(state) == REQUEST_NONE)
			return false;
		if (request_state_of(state) == REQUEST_RESPONDED && result != RESULT_ABORTED && result != RESULT_ABANDONED) {
			outcome = r->status;
			at = r->responded;
		}
		if (end_request(key, r, state, outcome, at))
			return true;
	}
	return false;
}

/* client_left_result returns the outcome of a pending request whose client has closed the connection. */
static __always_inline __u32 client_left_result(const struct request *r, __u64 now)
{
	struct circuit *c = circuit_of(r->circuit);
	struct policy *p = c ? judging_policy(c) : NULL;
	__u64 sent = READ_ONCE(r->sent), waited = now > sent ? now - sent : 0;

	if (r->flags & REQUEST_RACED)
		return RESULT_RACED;
	return p && p->patience && waited >= p->patience ? RESULT_ABANDONED : RESULT_ABORTED;
}
