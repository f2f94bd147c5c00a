/* Rejection of clients where they enter the node. An egress hook rejects a packet after routing, and its answer is routed back.
 * The ingress hook can reply directly to a client that uses a backend's own address, not a virtual one. It does so only if the
 * circuit rejects every connection; permits, limits and followed connections are left to the egress hook. */
#pragma once

#include <linux/if_packet.h>

#include "client.h"

/* may_reject reports whether the agent allows rejection on the interface, see entries. */
static __always_inline bool may_reject(struct __sk_buff *skb)
{
	__u32 here = skb->ifindex;

	return bpf_map_lookup_elem(&entries, &here);
}

#define PASS_ON decision(ACTION_PASS, REASON_FOREIGN)

/* can_reply reports whether a packet is addressed to this node and did not arrive through a tunnel whose key an answer would
 * need. A port of a bridge also sees packets for other hosts; the bridge itself sees the packets for the node. */
static __always_inline bool can_reply(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};

	return skb->pkt_type == PACKET_HOST && may_reject(skb) && bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0);
}

/* decide_at_entry decides about a packet that enters the node. PASS_ON leaves the decision to later hooks. */
__noinline __u64 decide_at_entry(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct kept_connection *c;
	struct answered_flow *done;
	struct endpoint ep;
	struct lookup l;
	__u32 reason;
	bool opens = pkt && is_syn(pkt);
	__u64 now;

	if (!n || !pkt)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	if (!opens && now >= READ_ONCE(n->answering_until))
		return PASS_ON;
	destination_of(skb, pkt, &ep);
	/* client_packet decides for the node's own addresses. Exemptions need the client's address, which is known after NAT
	 * only. */
	if (lookup_endpoint(&ep, &l) != LOOKUP_FOUND || l.flags & BACKEND_HOST || l.policy->flags & POLICY_EXEMPT_SOURCES)
		return PASS_ON;
	pkt->target = l.id;

	if (!opens) {
		if (now >= READ_ONCE(l.circuit->answering_until) || !may_reject(skb))
			return PASS_ON;
		done = find_answered(&pkt->key);
		/* If the backend had the connection, NAT and firewalls on the way have it as well. */
		if (done)
			return done->had_backend ? PASS_ON : answered_todo(done);
		c = find_kept(&pkt->key);
		if (c)
			return c->had_backend ? PASS_ON : decision(TODO_HTTP2_KEPT, 0);
		reason = cookie_reason(n, l.circuit, pkt);
		return reason && !find_flow(&pkt->key) ? decision(TODO_COOKIE_PACKET, reason) : PASS_ON;
	}

	/* The egress hook may see the connection with another address, and cannot remove this entry. Policies that reset store
	 * no entries. */
	if (l.policy->reject == REJECT_RESPOND || now < READ_ONCE(n->answering_until)) {
		if (answered_before(pkt))
			return decision(ACTION_SWALLOW, REASON_ANSWERED);
		remove_answered(&pkt->key);
	}
	if (!verdict_rejection(verdict_of(l.circuit), 0))
		return PASS_ON;
	reason = certain_rejection(l.circuit, n, bpf_ktime_get_ns());
	/* A SYN of a followed connection is a retransmission or begins the next connection: the egress hook decides. A rejected
	 * backend mostly has no connections, so the check of the count saves a lookup in a large table during a flood. */
	if (reason == REASON_FLOW || (READ_ONCE(l.target->connections) && find_flow(&pkt->key)) || !can_reply(skb))
		return PASS_ON;
	return decision(TODO_REJECT_SYN, reason);
}
