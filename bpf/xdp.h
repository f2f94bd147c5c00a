/* XDP on uplinks: new connections to rejected backends of this node end before there is an skb. */
#pragma once

#include "count.h"
#include "early.h"

/* Headers are re-read at constant offsets: l2 and v6 are constants of the client. The packet is cut or grown to Ethernet,
 * IP and TCP header before, and what is written lies within them. */
static __always_inline __u64 xdp_reset(struct xdp_md *ctx, struct packet *pkt, const __u32 l2, const bool v6, __u32 reason)
{
	const __u32 l3_len = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 want = l2 + l3_len + sizeof(struct tcphdr);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int have = end - data;
	__u8 macs[12];
	struct tcphdr *tcp;
	__u64 sum;

	if (bpf_xdp_adjust_tail(ctx, (int)want - have))
		return decision(ACTION_DROP, REASON_ERROR);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + want > end)
		return decision(ACTION_DROP, REASON_ERROR);
	__builtin_memcpy(macs, data, 12);
	__builtin_memcpy(data, macs + 6, 6);
	__builtin_memcpy(data + 6, macs, 6);
	if (v6) {
		struct ipv6hdr *ip = data + l2;

		__builtin_memcpy(&ip->saddr, pkt->key.backend, 16);
		__builtin_memcpy(&ip->daddr, pkt->key.client, 16);
		ip->payload_len = bpf_htons(sizeof(*tcp));
		ip->hop_limit = 64;
		sum = sum_bytes(pkt->key.backend, 16) + sum_bytes(pkt->key.client, 16);
	} else {
		struct iphdr *ip = data + l2;

		__builtin_memcpy(&ip->saddr, pkt->key.backend + 12, 4);
		__builtin_memcpy(&ip->daddr, pkt->key.client + 12, 4);
		ip->tot_len = bpf_htons(sizeof(*ip) + sizeof(*tcp));
		ip->tos = 0;
		ip->ttl = 64;
		ip->check = 0;
		ip->check = ~fold(sum_bytes(ip, sizeof(*ip)));
		sum = sum_bytes(pkt->key.backend + 12, 4) + sum_bytes(pkt->key.client + 12, 4);
	}
	tcp = data + l2 + l3_len;
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = pkt->key.backend_port_be;
	tcp->dest = pkt->key.client_port_be;
	tcp->ack_seq = bpf_htonl(pkt->seq + 1 + pkt->payload);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->rst = 1;
	tcp->ack = 1;
	sum += bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(*tcp));
	tcp->check = ~fold(sum + sum_bytes(tcp, sizeof(*tcp)));
	return decision(ACTION_RESET, reason);
}

/* A SYN to a backend of this node, through an uplink. */
static __always_inline __u64 xdp_syn(struct xdp_md *ctx, const __u32 l2, const bool v6)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const __u32 l3_len = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct endpoint ep = { .direction = DIRECTION_INBOUND };
	struct tcphdr *tcp = data + l2 + l3_len;
	struct node_state *n = the_node();
	struct packet pkt = {};
	struct target t;
	__u32 reason, total;

	if (!n || (void *)(tcp + 1) > end)
		return decision(ACTION_PASS, REASON_SHORT);
	if (v6) {
		struct ipv6hdr *ip = data + l2;

		if (ip->nexthdr != IPPROTO_TCP || ip->version != 6)
			return decision(ACTION_PASS, REASON_FOREIGN);
		__builtin_memcpy(pkt.key.client, &ip->saddr, 16);
		__builtin_memcpy(pkt.key.backend, &ip->daddr, 16);
		total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	} else {
		struct iphdr *ip = data + l2;

		/* What is not a plain TCP packet is TC's to count. */
		if (ip->protocol != IPPROTO_TCP || ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff))
			return decision(ACTION_PASS, REASON_FOREIGN);
		map_v4(pkt.key.client, ip->saddr);
		map_v4(pkt.key.backend, ip->daddr);
		total = bpf_ntohs(ip->tot_len);
	}
	if (!watched(n, tcp->dest))
		return decision(ACTION_PASS, REASON_FOREIGN);
	pkt.flags = ((__u8 *)tcp)[13];
	pkt.tcp_len = tcp->doff * 4;
	if (!is_syn(&pkt) || pkt.tcp_len < sizeof(*tcp) || total < l3_len + pkt.tcp_len)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (bpf_xdp_get_buff_len(ctx) < l2 + total)
		return decision(ACTION_PASS, REASON_SHORT);
	pkt.payload = total - l3_len - pkt.tcp_len;
	pkt.seq = bpf_ntohl(tcp->seq);
	pkt.key.client_port_be = tcp->source;
	pkt.key.backend_port_be = tcp->dest;

	__builtin_memcpy(ep.addr, pkt.key.backend, 16);
	ep.port_be = tcp->dest;
	if (find_target(&ep, &t) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_FOREIGN);
	/* An answer needs TC. A repeated SYN of an admitted connection passes there too. */
	if (t.policy->reject == REJECT_RESPOND || (READ_ONCE(t.circuit->connections) && bpf_map_lookup_elem(&flows, &pkt.key)))
		return decision(ACTION_PASS, REASON_FLOW);
	reason = surely_rejected(t.circuit, n, bpf_ktime_get_ns());
	if (reason == REASON_FLOW)
		return decision(ACTION_PASS, REASON_FLOW);
	if (exempt_source(pkt.key.client, t.policy))
		return decision(ACTION_PASS, REASON_EXEMPT);
	count_rejection(t.circuit, reason, t.policy->reject);
	if (t.policy->reject == REJECT_DROP)
		return decision(ACTION_DROP, reason);
	return xdp_reset(ctx, &pkt, l2, v6, reason);
}

static __always_inline __u64 xdp_decide(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__be16 inner;

	if ((void *)(eth + 1) > end)
		return decision(ACTION_PASS, REASON_SHORT);
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return xdp_syn(ctx, L2_ETHERNET, false);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return xdp_syn(ctx, L2_ETHERNET, true);
	if (eth->h_proto != bpf_htons(ETH_P_8021Q) && eth->h_proto != bpf_htons(ETH_P_8021AD))
		return decision(ACTION_PASS, REASON_FOREIGN);
	if (data + L2_VLAN > end)
		return decision(ACTION_PASS, REASON_SHORT);
	inner = *(__be16 *)(data + L2_VLAN - 2);
	if (inner == bpf_htons(ETH_P_IP))
		return xdp_syn(ctx, L2_VLAN, false);
	if (inner == bpf_htons(ETH_P_IPV6))
		return xdp_syn(ctx, L2_VLAN, true);
	return decision(ACTION_PASS, REASON_FOREIGN);
}

SEC("xdp.frags")
int xdp(struct xdp_md *ctx)
{
	__u64 d = xdp_decide(ctx);

	count_packet(HOOK_XDP, d);
	switch (d >> 32) {
	case ACTION_PASS:
		return XDP_PASS;
	case ACTION_RESET:
		return XDP_TX;
	default:
		return XDP_DROP;
	}
}
