/* Rejecting clients where they enter the node. What an egress hook rejects was routed through the node, and its answer
 * is routed back. A client that dials a backend's own address, not one that NAT will make of it, can be told at once. Only
 * what is surely rejected is: permits, limits and followed connections are the egress hook's. */
#pragma once

#include <linux/if_packet.h>

#include "early.h"

static __always_inline bool ours_alone(struct __sk_buff *skb)
{
	__u32 here = skb->ifindex;

	return bpf_map_lookup_elem(&entries, &here);
}

/* A packet for this node that did not come out of a tunnel whose key would be needed to answer. On a bridge's port others'
 * packets are seen as well; the bridge itself has those that are for the node. */
static __always_inline bool answerable(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};

	return skb->pkt_type == PACKET_HOST && ours_alone(skb) && bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0);
}

/* Returns what is to be done, or 0 to let the packet go on its way. */
__noinline __u64 at_entry(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct endpoint ep = { .direction = DIRECTION_OUTBOUND };
	__u32 entered = skb->ingress_ifindex, reason;
	struct answered_flow *done;
	struct backend *b;
	struct circuit *c;
	struct policy *p;
	bool opens;
	__u64 now;

	if (!n || !pkt)
		return 0;
	opens = is_syn(pkt);
	now = bpf_ktime_get_coarse_ns();
	if (!opens && now >= READ_ONCE(n->answering_until))
		return 0;
	ep.port_be = pkt->key.backend_port_be;
	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	if (entered && bpf_map_lookup_elem(&uplinks, &entered))
		ep.direction = DIRECTION_INBOUND;
	b = bpf_map_lookup_elem(&backends, &ep);
	/* The node's own addresses are looked after on the way in anyway. */
	if (!b || b->flags & BACKEND_HOST)
		return 0;
	c = circuit_of(b->circuit);
	p = c ? policy_of(c) : NULL;
	/* Who calls is known behind NAT only. */
	if (!p || p->flags & POLICY_EXEMPT_SOURCES)
		return 0;
	pkt->circuit = b->circuit;

	if (!opens) {
		if (now >= READ_ONCE(c->answering_until) || !ours_alone(skb))
			return 0;
		done = find_answered(&pkt->key);
		/* Where the backend knows the connection, so do NAT and firewalls on the way. */
		if (done)
			return done->known ? 0 : decision(TODO_OF_ANSWERED, 0);
		reason = answered_syn(n, c, pkt);
		return reason && !find_flow(&pkt->key) ? decision(TODO_OF_COOKIE, reason) : 0;
	}

	/* The egress hook may see it under another address, and cannot forget it. Who resets remembers nothing. */
	if (p->reject == REJECT_RESPOND || now < READ_ONCE(n->answering_until)) {
		if (answered_before(pkt))
			return decision(ACTION_SWALLOW, REASON_ANSWERED);
		forget_answered(&pkt->key);
	}
	if (!rejects_all(verdict_of(c), 0))
		return 0;
	reason = surely_rejected(c, n, bpf_ktime_get_ns());
	/* Of a connection that is followed it is a repetition, or the first of the next: the egress hook knows. Most ejected
	 * backends have none, and looking for one in a large table is slow in a flood. */
	if (reason == REASON_FLOW || (READ_ONCE(c->connections) && find_flow(&pkt->key)) || !answerable(skb))
		return 0;
	return decision(TODO_REJECT_SYN, reason);
}
