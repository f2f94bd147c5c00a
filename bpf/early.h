/* Rejecting new connections before TC sees a packet. These hooks take no permits and follow no connection: they reject what
 * an open circuit rejects whatever comes, and leave the rest to TC. */
#pragma once

#include "client.h"

/* reject_early decides about a connection to an endpoint before there is a packet: it can only be reset. Connections to a
 * backend whose policy rejects in another way pass. */
static __always_inline __u64 reject_early(const struct endpoint *ep)
{
	struct node_state *n = the_node();
	struct target t;
	__u32 reason;

	if (!n || !watched(n, ep->port_be) || find_target(ep, &t) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_FOREIGN);
	/* The client's address is not known here. */
	if (t.policy->reject != REJECT_RESET || t.policy->flags & POLICY_EXEMPT_SOURCES)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	reason = surely_rejected(t.circuit, n, bpf_ktime_get_ns());
	if (reason == REASON_FLOW)
		return decision(ACTION_PASS, REASON_FLOW);
	count_rejection(t.circuit, reason, REJECT_RESET);
	return decision(ACTION_RESET, reason);
}
