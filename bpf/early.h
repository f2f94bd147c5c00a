/* Rejecting new connections before TC sees a packet. These hooks take no permits and follow no connection: they reject what
 * an open circuit rejects whatever comes, and leave the rest to TC. */
#pragma once

#include "client.h"

/* reject_early decides about a connection to an endpoint before there is a packet: it can only be reset. Connections to a
 * backend whose policy rejects in another way pass. */
static __always_inline __u64 reject_early(const struct endpoint *ep)
{
	struct node_state *n = the_node();
	struct lookup l;
	__u32 reason;

	if (!n || !watched(n, ep->port_be) || lookup_endpoint(ep, &l) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_FOREIGN);
	/* The client's address is not known here. */
	if (l.policy->reject != REJECT_RESET || l.policy->flags & POLICY_EXEMPT_SOURCES)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	reason = surely_rejected(l.circuit, n, bpf_ktime_get_ns());
	if (reason == REASON_FLOW)
		return decision(ACTION_PASS, REASON_FLOW);
	count_rejection(l.circuit, reason, REJECT_RESET);
	return decision(ACTION_RESET, reason);
}
