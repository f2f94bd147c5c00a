/* Rewriting of a client's packet to the reply to it, or to a reset for the backend. */
#pragma once

#include "headers.h"
#include "render_http1.h"

/* write_ip writes the IP header and returns the folded sum of the pseudo header. It sets sum to that of the IP header. */
static __always_inline __u32 write_ip(struct __sk_buff *skb, const struct packet *pkt, bool back, __u32 tcp_total, __u64 *sum,
				      long *err)
{
	__u32 pseudo;

	if (pkt->v6) {
		struct ipv6hdr ip;

		pseudo = build_ipv6(&ip, pkt, back, tcp_total);
		*err |= bpf_skb_store_bytes(skb, pkt->l3, &ip, sizeof(ip), 0);
		*sum = sum_bytes(&ip, sizeof(ip));
	} else {
		struct iphdr ip;

		pseudo = build_ipv4(&ip, pkt, back, tcp_total);
		*err |= bpf_skb_store_bytes(skb, pkt->l3, &ip, sizeof(ip), 0);
		*sum = 0xffff;
	}
	return pseudo;
}

static __always_inline long swap_macs(struct __sk_buff *skb)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

/* update_complete updates the sum of the whole packet that a network card may have computed (CHECKSUM_COMPLETE). An egress hook
 * and a change of length discard that sum. Otherwise it must match the packet, or the kernel reports a hardware checksum
 * failure. sum is that of the packet as it is now. */
static __always_inline void update_complete(struct __sk_buff *skb, __u64 sum)
{
	__s64 old = bpf_csum_update(skb, 0);

	if (old >= 0)
		bpf_csum_update(skb, fold(sum + (__u32)~old));
}

/* write_tcp writes the TCP header. pseudo is the sum of the pseudo header, payload_sum that of the payload. */
static __always_inline long write_tcp(struct __sk_buff *skb, const struct packet *pkt, const struct segment *s, __u32 pseudo,
				      __u64 payload_sum)
{
	struct tcp_header tcp;
	long err;

	build_tcp(&tcp, pkt, s, pseudo);
	if (s->has_ts && s->mss)
		err = bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp.h) + 16, 0);
	else if (s->has_ts)
		err = bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp.h) + 12, 0);
	else if (s->mss)
		err = bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp.h) + 4, 0);
	else
		err = bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp.h), 0);

	/* Options that are not sent are 0 and do not change the sum. The client's packet may be CHECKSUM_PARTIAL, which a
	 * program cannot see: then the field must keep the sum P of the pseudo header. Otherwise it must become ~(P + H), where
	 * H is the sum of header and payload without the field, which now holds P. Replacing 0 by 2P + H is right in both
	 * cases: a partial checksum is not changed, and P becomes ~(2P + H + ~P) = ~(P + H). */
	return err | bpf_l4_csum_replace(skb, pkt->l4 + __builtin_offsetof(struct tcphdr, check), 0,
					 fold(pseudo + sum_bytes(&tcp, sizeof(tcp)) + payload_sum), 0);
}

/* write_headers writes the headers of a packet whose payload, of len bytes with sum payload_sum, is in place. */
static __always_inline long write_headers(struct __sk_buff *skb, const struct packet *pkt, const struct segment *s, __u32 len,
					  __u64 payload_sum)
{
	__u32 payload = pkt->l4 + sizeof(struct tcphdr) + options_len(s), pseudo;
	__u64 ip_sum = 0;
	long err = 0;

	if (s->back) {
		/* The mark belongs to the client's packet; rules for the way back must not match it. */
		skb->mark = 0;
		if (pkt->l3 != L2_NONE && !s->turned)
			err |= swap_macs(skb);
	}
	pseudo = write_ip(skb, pkt, s->back, payload + len - pkt->l4, &ip_sum, &err);
	err |= write_tcp(skb, pkt, s, pseudo, payload_sum);
	if (pkt->hook == HOOK_INGRESS) {
		__u32 tag = 0;

		/* The sum of the card begins after the Ethernet header. */
		if (pkt->l3 == L2_VLAN)
			err |= bpf_skb_load_bytes(skb, ETH_HLEN, &tag, sizeof(tag));
		/* The sum of TCP including its checksum is the complement of the pseudo header's. */
		update_complete(skb, ip_sum + (__u16)~pseudo + sum_word(tag));
	}
	return err;
}

/* rewrite replaces the whole packet and returns 0 on success. pkt->key must be as parsed: the client is the source. */
__noinline long rewrite(struct __sk_buff *skb, const struct packet *pkt, const struct segment *s)
{
	__u32 payload, len = 0;
	struct answer *a = NULL;
	__u64 payload_sum = 0;
	long err = 0;

	if (!pkt || !s)
		return -1;
	payload = pkt->l4 + sizeof(struct tcphdr) + options_len(s);
	if (s->answer != ANSWER_NONE) {
		a = answer_at(s->answer);
		if (!a)
			return -1;
		len = s->head_only ? a->head_len : a->len;
		if (len > ANSWER_MAX)
			return -1;
		payload_sum = s->head_only ? a->head_sum : a->sum;
	}

	/* bpf_skb_change_tail sets the length, makes the packet linear and unshared, and clears its segmentation state. */
	if (bpf_skb_change_tail(skb, payload + len, 0))
		return -1;
	if (a && len)
		err |= http1_write(skb, payload, a, len, s->retry, &payload_sum);
	return err | write_headers(skb, pkt, s, len, payload_sum);
}
