/* Whose business is a packet: the backend that it goes to, and whether its client is exempt. */
#pragma once

#include "outcome.h"
#include "parse.h"

/* Which circuit a packet to this destination belongs to, in the direction in which the packet travels. Returns
 * REASON_FLOW and fills found, or why there is none. */
__noinline __u32 find_backend(struct __sk_buff *skb, const struct packet *pkt, struct backend *found)
{
	struct endpoint ep = { .direction = DIRECTION_OUTBOUND };
	__u32 entered = skb->ingress_ifindex;
	struct backend *b;

	if (!pkt || !found)
		return REASON_FOREIGN;
	ep.port_be = pkt->key.backend_port_be;

	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	if (entered && bpf_map_lookup_elem(&uplinks, &entered))
		ep.direction = DIRECTION_INBOUND;
	b = bpf_map_lookup_elem(&backends, &ep);
	/* On an interface's way in only the node's own addresses are behind it; others are seen on their way out. */
	if (b && (pkt->hook != HOOK_INGRESS || b->flags & BACKEND_HOST)) {
		*found = *b;
		return REASON_FLOW;
	}
	if (!b && ep.direction == DIRECTION_INBOUND) {
		ep.direction = DIRECTION_OUTBOUND;
		if (bpf_map_lookup_elem(&backends, &ep))
			return REASON_REMOTE;
	}
	return REASON_FOREIGN;
}

/* Tells the agent of a destination that only a CIDR names, at most once a second for each. */
__noinline int learn(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, __u64 now)
{
	struct cidr_key key = { .prefix_len = 144 };
	struct endpoint ep = {};
	__u32 entered = skb->ingress_ifindex, *directions;
	struct event *e;
	__u64 *last;

	if (!n || !pkt)
		return 0;
	key.port_be = pkt->key.backend_port_be;
	ep.port_be = pkt->key.backend_port_be;
	__builtin_memcpy(key.addr, pkt->key.backend, 16);
	directions = bpf_map_lookup_elem(&cidrs, &key);
	if (!directions)
		return 0;
	if (entered && bpf_map_lookup_elem(&uplinks, &entered))
		ep.direction = DIRECTION_INBOUND;
	if (!(*directions & (1 << ep.direction)))
		return 0;
	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	last = bpf_map_lookup_elem(&learning, &ep);
	if (last && now - *last < 1000000000ULL)
		return 0;
	bpf_map_update_elem(&learning, &ep, &now, BPF_ANY);
	e = news(n, &pkt->key);
	if (!e)
		return 0;
	e->at = now;
	e->began = now;
	e->circuit = ep.direction;
	e->kind = EVENT_LEARN;
	tell(e);
	return 0;
}

static __always_inline bool exempt_source(const __u8 *client, const struct policy *p)
{
	struct source_key key = { .prefix_len = 160, .policy = p->id };

	if (!(p->flags & POLICY_EXEMPT_SOURCES))
		return false;
	__builtin_memcpy(key.addr, client, 16);
	return bpf_map_lookup_elem(&exempt_sources, &key);
}

__noinline bool exempt(struct __sk_buff *skb, const struct packet *pkt, const struct policy *p, const struct node_state *n,
			      __u32 backend_flags)
{
	if (!p || !n || !pkt)
		return false;
	/* A host process outside the pods' cgroups that talks to a pod of this node: the kubelet, checking it. */
	if (p->flags & POLICY_EXEMPT_NODE && backend_flags & BACKEND_LOCAL_POD && !skb->ingress_ifindex && n->kubepods &&
	    bpf_skb_ancestor_cgroup_id(skb, n->kubepods_level) != n->kubepods)
		return true;
	return exempt_source(pkt->key.client, p);
}
