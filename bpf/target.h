/* Which direction a packet has, and which backend, circuit and policy an endpoint has. */
#pragma once

#include "verdict.h"

/* What the policies say of an endpoint. The pointers lead into maps, so a target is passed to inlined and static functions
 * only: a global function would see numbers. */
struct target {
	struct circuit *circuit;
	struct policy *policy;
	__u32 id; /* of the circuit */
	__u32 flags; /* enum backend_flag */
};

enum lookup_result {
	LOOKUP_NO_BACKEND, /* no policy names the endpoint */
	LOOKUP_NO_POLICY, /* the circuit was just released */
	LOOKUP_FOUND,
};

/* find_circuit fills t for a circuit. */
static __always_inline enum lookup_result find_circuit(__u32 id, struct target *t)
{
	t->id = id;
	t->circuit = circuit_of(id);
	t->policy = t->circuit ? policy_of(t->circuit) : NULL;
	return t->policy ? LOOKUP_FOUND : LOOKUP_NO_POLICY;
}

/* find_target fills t for an endpoint in its direction. ep is on the caller's stack. */
static __always_inline enum lookup_result find_target(const struct endpoint *ep, struct target *t)
{
	struct backend *b = bpf_map_lookup_elem(&backends, ep);

	if (!b)
		return LOOKUP_NO_BACKEND;
	t->flags = b->flags;
	return find_circuit(b->circuit, t);
}

/* direction_of returns the direction of a packet: what entered the node through an uplink is inbound. entered is the index of
 * that interface, 0 for this host. */
static __always_inline enum direction direction_of(__u32 entered)
{
	return entered && bpf_map_lookup_elem(&uplinks, &entered) ? DIRECTION_INBOUND : DIRECTION_OUTBOUND;
}
