/* Rejecting clients where they enter the node. What an egress hook rejects was routed through the node, and its answer
 * is routed back. A client that dials a backend's own address, not one that NAT will make of it, can be told at once. Only
 * what is surely rejected is: permits, limits and followed connections are the egress hook's. */
#pragma once

#include <linux/if_packet.h>

#include "client.h"

static __always_inline bool ours_alone(struct __sk_buff *skb)
{
	__u32 here = skb->ifindex;

	return bpf_map_lookup_elem(&entries, &here);
}

#define PASS_ON decision(ACTION_PASS, REASON_FOREIGN)

/* A packet for this node that did not come out of a tunnel whose key would be needed to answer. On a bridge's port others'
 * packets are seen as well; the bridge itself has those that are for the node. */
static __always_inline bool answerable(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};

	return skb->pkt_type == PACKET_HOST && ours_alone(skb) && bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0);
}

/* decide_at_entry decides about a packet that enters the node. PASS_ON: the hooks after this one decide. */
__noinline __u64 decide_at_entry(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct answered_flow *done;
	struct endpoint ep;
	struct target t;
	__u32 reason;
	bool opens;
	__u64 now;

	if (!n || !pkt)
		return 0;
	opens = is_syn(pkt);
	now = bpf_ktime_get_coarse_ns();
	if (!opens && now >= READ_ONCE(n->answering_until))
		return PASS_ON;
	destination_of(skb, pkt, &ep);
	/* from_client decides for the node's own addresses. The client's address is known behind NAT only. */
	if (find_target(&ep, &t) != LOOKUP_FOUND || t.flags & BACKEND_HOST || t.policy->flags & POLICY_EXEMPT_SOURCES)
		return PASS_ON;
	pkt->circuit = t.id;

	if (!opens) {
		if (now >= READ_ONCE(t.circuit->answering_until) || !ours_alone(skb))
			return PASS_ON;
		done = find_answered(&pkt->key);
		/* Where the backend knows the connection, so do NAT and firewalls on the way. */
		if (done)
			return done->known ? PASS_ON : decision(TODO_ANSWERED_PACKET, 0);
		reason = cookie_reason(n, t.circuit, pkt);
		return reason && !find_flow(&pkt->key) ? decision(TODO_COOKIE_PACKET, reason) : PASS_ON;
	}

	/* The egress hook may see it under another address, and cannot forget it. Who resets remembers nothing. */
	if (t.policy->reject == REJECT_RESPOND || now < READ_ONCE(n->answering_until)) {
		if (answered_before(pkt))
			return decision(ACTION_SWALLOW, REASON_ANSWERED);
		forget_answered(&pkt->key);
	}
	if (!rejects_all(verdict_of(t.circuit), 0))
		return PASS_ON;
	reason = surely_rejected(t.circuit, n, bpf_ktime_get_ns());
	/* Of a connection that is followed it is a repetition, or the first of the next: the egress hook knows. Most ejected
	 * backends have none, and looking for one in a large table is slow in a flood. */
	if (reason == REASON_FLOW || (READ_ONCE(t.circuit->connections) && find_flow(&pkt->key)) || !answerable(skb))
		return PASS_ON;
	return decision(TODO_REJECT_SYN, reason);
}
