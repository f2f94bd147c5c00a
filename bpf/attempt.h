/* The end of an attempt to connect that got no reply of the backend. */
#pragma once

#include "flow.h"

/* end_attempt records how a SYN that no SYN-ACK answered ended, unless somebody else just did, and gives back its permit and its
 * place among the connections. The flow stays: the SYN may be sent again, and must not be judged twice. turn: as read before.
 * Returns 1 if it ended the attempt. */
__noinline int end_attempt(const struct flow_key *key, struct flow *f, __u64 turn, __u32 result, __u64 now)
{
	struct completion done;
	struct target *t;

	if (!key || !f || phase_of(turn) != PHASE_SYN)
		return 0;
	done = completion_of(&f->request, result, now);
	if (!set_phase(f, turn, PHASE_EXPIRED))
		return 0;
	__sync_fetch_and_and(&f->request.flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	t = target_of(f->target);
	if (t)
		__sync_fetch_and_add(&t->connections, -1);
	record_completion(key, f->request.circuit, &done);
	return 1;
}
