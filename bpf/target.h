/* Direction of a packet; backend, target, circuit and policy of an endpoint. */
#pragma once

#include "verdict.h"

/* Result of a lookup. It holds pointers to map values, so only inlined and static functions take it: in an argument of a global
 * function the verifier treats them as scalars. */
struct lookup {
	struct target *target;
	struct circuit *circuit;
	struct policy *policy;
	__u32 id; /* index of the target */
	__u32 circuit_id;
	__u32 flags; /* enum backend_flag */
	__u32 pad;
};

enum lookup_result {
	LOOKUP_NO_BACKEND, /* no policy names the endpoint */
	LOOKUP_NO_POLICY, /* the target has been released */
	LOOKUP_FOUND,
};

/* lookup_target fills l for a target and its circuit. */
static __always_inline enum lookup_result lookup_target(__u32 id, struct lookup *l)
{
	l->id = id;
	l->target = target_of(id);
	if (!l->target)
		return LOOKUP_NO_POLICY;
	l->circuit_id = READ_ONCE(l->target->circuit);
	l->circuit = circuit_of(l->circuit_id);
	l->policy = policy_of(l->target);
	return l->circuit && l->policy ? LOOKUP_FOUND : LOOKUP_NO_POLICY;
}

/* lookup_endpoint fills l for an endpoint. ep is on the caller's stack, as kernels before 6.2 require of a map key. */
static __always_inline enum lookup_result lookup_endpoint(const struct endpoint *ep, struct lookup *l)
{
	struct backend *b = bpf_map_lookup_elem(&backends, ep);

	if (!b)
		return LOOKUP_NO_BACKEND;
	l->flags = b->flags;
	return lookup_target(b->target, l);
}

/* direction_of returns the direction of a packet: inbound if it entered the node through an uplink. ifindex is that of the
 * interface, 0 for this host. */
static __always_inline enum direction direction_of(__u32 ifindex)
{
	return ifindex && bpf_map_lookup_elem(&uplinks, &ifindex) ? DIRECTION_INBOUND : DIRECTION_OUTBOUND;
}
