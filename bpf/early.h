/* Rejection of new connections before TC. These hooks take no permits and follow no connections: they reject only if the
 * circuit rejects every connection, and pass all others to TC. */
#pragma once

#include "client.h"

/* reject_early decides about a connection to an endpoint before its first packet. It can only reset, so it passes connections
 * under policies that reject in another way. */
static __always_inline __u64 reject_early(const struct endpoint *ep)
{
	struct node_state *n = the_node();
	struct lookup l;
	__u32 reason;

	if (!n || !is_backend_port(n, ep->port_be) || lookup_endpoint(ep, &l) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_FOREIGN);
	/* The hook does not know the client's address, so it cannot check exemptions. */
	if (l.policy->reject != REJECT_RESET || l.policy->flags & POLICY_EXEMPT_SOURCES)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	reason = certain_rejection(l.circuit, n, bpf_ktime_get_ns());
	if (reason == REASON_FLOW)
		return decision(ACTION_PASS, REASON_FLOW);
	count_rejection(l.circuit, reason, REJECT_RESET);
	return decision(ACTION_RESET, reason);
}
