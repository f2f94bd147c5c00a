/* Headers of a packet that the kernel sends, for TC and XDP. They are built on the stack; the program writes them to the
 * packet. */
#pragma once

#include "parse.h"

/* Content of a segment that the kernel sends. It takes ports and addresses from the packet that it replaces. */
struct segment {
	__u32 seq;
	__u32 ack;
	__u32 flags;
	__u32 mss; /* value of the MSS option, 0 = none */
	__u32 has_ts;
	__be32 ts_val;
	__be32 ts_ecr;
	__u32 back; /* 1: to the sender of the packet, 0: to its destination */
	__u32 answer; /* index in answers, ANSWER_NONE = no payload */
	__u16 head_only; /* 1: the answer has no body */
	__u16 had_backend; /* 1: the backend had the connection and got a reset */
	__u32 isn; /* the client's ISN, which identifies a retransmitted SYN */
	__u32 turned; /* 1: the packet has the MAC addresses of the way back */
	__u64 retry; /* value of Retry-After in seconds */
};

struct tcp_header {
	struct tcphdr h;
	__be32 options[4];
};

_Static_assert(sizeof(struct tcp_header) == 36, "sum_bytes needs a multiple of 4");
_Static_assert(sizeof(struct iphdr) == 20 && sizeof(struct ipv6hdr) == 40 && sizeof(struct tcphdr) == 20,
	       "headers are written without options");

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* sum_bytes sums p in words of 32 bits, which fold to the same sum as words of 16. p and len are multiples of 4, so no read
 * exceeds p + len. */
static __always_inline __u64 sum_bytes(const void *p, const int len)
{
	const __u32 *w = p;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < len / 4; i++)
		sum += w[i];
	return sum;
}

static __always_inline __u64 sum_word(__u64 w)
{
	return (w & 0xffff) + (w >> 16 & 0xffff) + (w >> 32 & 0xffff) + (w >> 48);
}

#define HOP_LIMIT 64 /* default of Linux for IPv4 and IPv6 */

/* build_ipv4 and build_ipv6 fill an IP header for tcp_total bytes of TCP, and return the folded sum of the pseudo header. back:
 * the packet returns to its sender. */
static __always_inline __u32 build_ipv4(struct iphdr *ip, const struct packet *pkt, bool back, __u32 tcp_total)
{
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(*ip) + tcp_total),
		.frag_off = bpf_htons(0x4000), /* don't fragment */
		.ttl = HOP_LIMIT,
		.protocol = IPPROTO_TCP,
	};
	__builtin_memcpy(&ip->saddr, (back ? pkt->key.backend : pkt->key.client) + 12, 4);
	__builtin_memcpy(&ip->daddr, (back ? pkt->key.client : pkt->key.backend) + 12, 4);
	ip->check = ~fold(sum_bytes(ip, sizeof(*ip)));
	return fold(bpf_htons(IPPROTO_TCP) + bpf_htons(tcp_total) + sum_bytes(&ip->saddr, 8));
}

static __always_inline __u32 build_ipv6(struct ipv6hdr *ip, const struct packet *pkt, bool back, __u32 tcp_total)
{
	*ip = (struct ipv6hdr){
		.version = 6,
		.payload_len = bpf_htons(tcp_total),
		.nexthdr = IPPROTO_TCP,
		.hop_limit = HOP_LIMIT,
	};
	__builtin_memcpy(&ip->saddr, back ? pkt->key.backend : pkt->key.client, 16);
	__builtin_memcpy(&ip->daddr, back ? pkt->key.client : pkt->key.backend, 16);
	return fold(bpf_htons(IPPROTO_TCP) + bpf_htons(tcp_total) + sum_bytes(&ip->saddr, 32));
}

static __always_inline __u32 options_len(const struct segment *s)
{
	return (s->has_ts ? 12 : 0) + (s->mss ? 4 : 0);
}

/* build_tcp fills a TCP header. It sets the checksum to pseudo, the sum of the pseudo header; the caller completes it. */
static __always_inline void build_tcp(struct tcp_header *tcp, const struct packet *pkt, const struct segment *s, __u32 pseudo)
{
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->h.source = s->back ? pkt->key.backend_port_be : pkt->key.client_port_be;
	tcp->h.dest = s->back ? pkt->key.client_port_be : pkt->key.backend_port_be;
	tcp->h.seq = bpf_htonl(s->seq);
	tcp->h.ack_seq = bpf_htonl(s->ack);
	tcp->h.window = bpf_htons(s->flags & TCP_RST ? 0 : 65535);
	tcp->h.check = pseudo;
	tcp->h.doff = (sizeof(tcp->h) + options_len(s)) / 4;
	((__u8 *)&tcp->h)[13] = s->flags;
	if (s->has_ts) {
		tcp->options[0] = bpf_htonl(0x0101080a);
		tcp->options[1] = s->ts_val;
		tcp->options[2] = s->ts_ecr;
		if (s->mss)
			tcp->options[3] = bpf_htonl(0x02040000 | s->mss);
	} else if (s->mss) {
		tcp->options[0] = bpf_htonl(0x02040000 | s->mss);
	}
}
