/* Destination of a packet: its target, learning of new backends, exemption of clients. */
#pragma once

#include "outcome.h"
#include "parse.h"
#include "target.h"

/* destination_of sets ep to the endpoint to which a packet goes. */
static __always_inline void destination_of(struct __sk_buff *skb, const struct packet *pkt, struct endpoint *ep)
{
	__builtin_memcpy(ep->addr, pkt->key.backend, 16);
	ep->port_be = pkt->key.backend_port_be;
	ep->direction = direction_of(skb->ingress_ifindex);
}

/* packet_target fills l for the destination of a packet and returns REASON_FLOW, or the reason why it has no target. */
static __always_inline __u32 packet_target(struct __sk_buff *skb, const struct packet *pkt, struct lookup *l)
{
	enum lookup_result result;
	struct endpoint ep;

	destination_of(skb, pkt, &ep);
	result = lookup_endpoint(&ep, l);
	if (result == LOOKUP_NO_BACKEND) {
		if (ep.direction == DIRECTION_OUTBOUND)
			return REASON_FOREIGN;
		ep.direction = DIRECTION_OUTBOUND;
		return bpf_map_lookup_elem(&backends, &ep) ? REASON_REMOTE : REASON_FOREIGN;
	}
	/* On ingress only the node's own addresses are destinations; the egress hook decides for all others. */
	if (pkt->hook == HOOK_INGRESS && !(l->flags & BACKEND_HOST))
		return REASON_FOREIGN;
	return result == LOOKUP_FOUND ? REASON_FLOW : REASON_UNTRACKED;
}

/* send_learn_event sends an event for a destination that only a CIDR names, at most once per second for each endpoint. */
__noinline int send_learn_event(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, __u64 now)
{
	struct cidr_key key = { .prefix_len = 144 };
	struct endpoint ep;
	__u32 *directions;
	struct event *e;
	__u64 *last;

	if (!n || !pkt)
		return 0;
	key.port_be = pkt->key.backend_port_be;
	__builtin_memcpy(key.addr, pkt->key.backend, 16);
	directions = bpf_map_lookup_elem(&cidrs, &key);
	if (!directions)
		return 0;
	destination_of(skb, pkt, &ep);
	if (!(*directions & (1 << ep.direction)))
		return 0;
	last = bpf_map_lookup_elem(&learning, &ep);
	if (last && now - *last < 1000000000ULL)
		return 0;
	bpf_map_update_elem(&learning, &ep, &now, BPF_ANY);
	e = event_reserve(n, &pkt->key);
	if (!e)
		return 0;
	e->at = now;
	e->began = now;
	e->circuit = ep.direction;
	e->kind = EVENT_LEARN;
	event_submit(e);
	return 0;
}

_Static_assert(sizeof(struct endpoint) == 20, "the key of a map must have no padding");
_Static_assert(__builtin_offsetof(struct cidr_key, addr) == __builtin_offsetof(struct cidr_key, port_be) + sizeof(__be16),
	       "the prefix covers port and address without a gap");

/* is_exempt_source reports whether a policy exempts a client address. */
static __always_inline bool is_exempt_source(const __u8 *client, const struct policy *p)
{
	struct source_key key = { .prefix_len = 160, .policy = p->id };

	if (!(p->flags & POLICY_EXEMPT_SOURCES))
		return false;
	__builtin_memcpy(key.addr, client, 16);
	return bpf_map_lookup_elem(&exempt_sources, &key);
}

/* is_exempt reports whether a policy exempts the client of a packet. */
__noinline bool is_exempt(struct __sk_buff *skb, const struct packet *pkt, const struct policy *p, const struct node_state *n,
			  __u32 backend_flags)
{
	if (!p || !n || !pkt)
		return false;
	/* A process of the host outside the pods' cgroup connects to a pod of this node: a health check of the kubelet. */
	if (p->flags & POLICY_EXEMPT_NODE && backend_flags & BACKEND_LOCAL_POD && !skb->ingress_ifindex && n->kubepods &&
	    bpf_skb_ancestor_cgroup_id(skb, n->kubepods_level) != n->kubepods)
		return true;
	return is_exempt_source(pkt->key.client, p);
}
