/* XDP on uplinks: rejects new connections to backends of this node before an skb is allocated. */
#pragma once

#include "count.h"
#include "early.h"

/* xdp_reset rewrites a packet to a reset for its sender. l2 and v6 are constants of the caller, so headers are written at
 * constant offsets. All writes are in bounds: the packet is first resized to its Ethernet, IP and TCP headers, and checked
 * against data_end. */
static __always_inline __u64 xdp_reset(struct xdp_md *ctx, const struct packet *pkt, const __u32 l2, const bool v6, __u32 reason)
{
	const struct segment s = { .ack = pkt->seq + 1 + pkt->payload, .flags = TCP_RST | TCP_ACK, .back = 1 };
	const __u32 l3_len = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 want = l2 + l3_len + sizeof(struct tcphdr);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int have = end - data;
	struct tcp_header tcp;
	__u32 pseudo;
	__u8 macs[12];

	if (bpf_xdp_adjust_tail(ctx, (int)want - have))
		return decision(ACTION_DROP, REASON_ERROR);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + want > end)
		return decision(ACTION_DROP, REASON_ERROR);
	__builtin_memcpy(macs, data, 12);
	__builtin_memcpy(data, macs + 6, 6);
	__builtin_memcpy(data + 6, macs, 6);
	if (v6)
		pseudo = build_ipv6(data + l2, pkt, true, sizeof(tcp.h));
	else
		pseudo = build_ipv4(data + l2, pkt, true, sizeof(tcp.h));
	build_tcp(&tcp, pkt, &s, pseudo);
	tcp.h.check = ~fold(sum_bytes(&tcp.h, sizeof(tcp.h)));
	*(struct tcphdr *)(data + l2 + l3_len) = tcp.h;
	return decision(ACTION_RESET, reason);
}

/* decide_xdp_syn decides about a SYN to a backend of this node. */
static __always_inline __u64 decide_xdp_syn(const struct packet *pkt, const struct node_state *n)
{
	struct endpoint ep = { .port_be = pkt->key.backend_port_be, .direction = DIRECTION_INBOUND };
	struct lookup l;
	__u32 reason;

	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	if (lookup_endpoint(&ep, &l) != LOOKUP_FOUND)
		return pass(REASON_FOREIGN);
	/* Only TC can answer. A retransmitted SYN of an admitted connection also passes to TC. */
	if (l.policy->reject == REJECT_RESPOND || (READ_ONCE(l.target->connections) && bpf_map_lookup_elem(&flows, &pkt->key)))
		return pass(REASON_FLOW);
	reason = certain_rejection(l.circuit, n, bpf_ktime_get_ns());
	if (reason == REASON_FLOW)
		return pass(REASON_FLOW);
	if (is_exempt_source(pkt->key.client, l.policy))
		return pass(REASON_EXEMPT);
	count_rejection(l.circuit, reason, l.policy->reject);
	return decision(l.policy->reject == REJECT_DROP ? ACTION_DROP : ACTION_RESET, reason);
}

static __always_inline __u64 decide_xdp(struct xdp_md *ctx, const struct frame *fr, const __u32 l2)
{
	struct node_state *n = the_node();
	struct packet pkt;
	__u32 total = 0;
	__u64 d;

	if (!n)
		return pass(REASON_FOREIGN);
	d = parse_headers(fr, n, &pkt, l2, &total);
	/* TC counts packets that are not plain TCP. */
	if (d != PARSED)
		return pass((__u32)d == REASON_SHORT ? REASON_SHORT : REASON_FOREIGN);
	if (!is_syn(&pkt))
		return pass(REASON_UNTRACKED);
	d = set_payload(fr, &pkt, total);
	if (d == PARSED)
		d = decide_xdp_syn(&pkt, n);
	if (d >> 32 != ACTION_RESET)
		return d;
	return pkt.v6 ? xdp_reset(ctx, &pkt, l2, true, d) : xdp_reset(ctx, &pkt, l2, false, d);
}

SEC("xdp.frags")
int xdp(struct xdp_md *ctx)
{
	const struct frame fr = xdp_frame(ctx);
	__u64 d = ethernet_len(&fr) == L2_VLAN ? decide_xdp(ctx, &fr, L2_VLAN) : decide_xdp(ctx, &fr, L2_ETHERNET);

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
