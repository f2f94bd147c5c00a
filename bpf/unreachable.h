/* Backends whose neighbour or next hop failed to resolve. Packets that wait for an address resolution never reach an egress
 * hook, so the agent reports a failed one. */
#pragma once

#include "attempt.h"
#include "parse.h"
#include "target.h"

/* end_unreachable ends attempts whose SYN was sent to the stale link-layer address before the resolution failed. */
static long end_unreachable(void *map, struct flow_key *key, struct flow *f, struct unreachable_args *args)
{
	struct flow_key k = *key;
	struct endpoint ep = {};
	struct unreachable_backend *u;
	__u64 state = READ_ONCE(f->state);
	struct lookup l;

	if (phase_of(state) != PHASE_SYN || f->request.started > args->now)
		return 0;
	if (lookup_target(f->target, &l) != LOOKUP_FOUND)
		return 0;
	__builtin_memcpy(ep.addr, k.backend, 16);
	ep.port_be = k.backend_port_be;
	ep.direction = l.policy->direction;
	u = bpf_map_lookup_elem(&unreachables, &ep);
	if (u && u->target == f->target && end_attempt(&k, f, state, RESULT_UNREACHABLE, args->now)) {
		u->ended++;
		args->ended++;
	}
	return 0;
}

/* record_unseen_attempt records one attempt for a backend without an attempt that a hook saw: a failed resolution implies that
 * there was one. In half-open it takes a permit as a probe does. An attempt that the circuit rejects is not recorded. */
static long record_unseen_attempt(void *map, struct endpoint *ep, struct unreachable_backend *u, struct unreachable_args *args)
{
	struct completion done = { .began = args->now, .sent = args->now, .now = args->now, .result = RESULT_UNREACHABLE };
	struct node_state *n = the_node();
	struct flow_key key = {};
	struct admission adm = {};
	struct lookup l;

	if (u->ended || !n || lookup_target(u->target, &l) != LOOKUP_FOUND)
		return 0;
	circuit_admit(l.circuit, args->now, 0, &adm);
	if (is_rejection(adm.reason))
		return 0;
	__builtin_memcpy(key.backend, ep->addr, 16);
	key.backend_port_be = ep->port_be;
	if (adm.reason == REASON_PROBE) {
		/* No permit is free: other probes are in flight and get the same outcome. */
		if (!acquire_permit(l.circuit, &adm, args->now))
			return 0;
		__sync_fetch_and_add(&l.circuit->probes, 1);
		event_permit(n, &key, l.circuit_id, adm.generation, args->now, EVENT_PROBE);
		done.permit = 1;
	}
	done.generation = adm.generation;
	record_completion(&key, l.circuit_id, &done);
	args->unseen++;
	return 0;
}
