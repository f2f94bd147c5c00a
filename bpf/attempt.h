/* The end of a connection attempt that got no reply. */
#pragma once

#include "flow.h"

/* end_attempt records the outcome of a SYN without a SYN-ACK and releases its permit and its connection count. It returns 1 if
 * it ended the attempt, 0 if another CPU has changed the phase since state was read. The flow stays, so that a retransmitted
 * SYN is not judged again. */
__noinline int end_attempt(const struct flow_key *key, struct flow *f, __u64 state, __u32 result, __u64 now)
{
	struct completion done;
	struct target *t;

	if (!key || !f || phase_of(state) != PHASE_SYN)
		return 0;
	done = completion_of(&f->request, result, now);
	if (!set_phase(f, state, PHASE_EXPIRED))
		return 0;
	__sync_fetch_and_and(&f->request.flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	t = target_of(f->target);
	if (t)
		__sync_fetch_and_add(&t->connections, -1);
	record_completion(key, f->request.circuit, &done);
	return 1;
}
