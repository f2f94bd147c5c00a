/* From a frame to a TCP packet, for TC and XDP. Headers are read by direct access, at constant offsets for each length of the
 * link header. The payload never is: packets of this host and merged packets keep it in fragments. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "packet.h"

#define L2_NONE 0
#define L2_ETHERNET ETH_HLEN
#define L2_VLAN (ETH_HLEN + 4)

#define PARSED (~0ULL)
#define PARSED_ICMP (~0ULL - 1) /* not TCP: it may be an error about a TCP packet, see icmp.h */
#define PARSED_ICMP_V6 (~0ULL - 2)

_Static_assert(sizeof(((struct node_state *)0)->ports) * 8 == 65536, "a bit for each port");

static __always_inline bool watched(const struct node_state *n, __be16 port_be)
{
	__u16 port = bpf_ntohs(port_be);

	/* port / 64 is below 1024 for every 16-bit port. */
	return n->ports[port / 64] & (1ULL << (port % 64));
}

/* A frame as a program gets it. hook is a constant of the program. It says which context there is, so that the compiler
 * leaves out what is for others. */
struct frame {
	struct __sk_buff *skb;
	struct xdp_md *xdp; /* HOOK_XDP, which has no skb */
	void *data;
	void *end;
	__u32 hook;
	__u32 pad;
};

static __always_inline struct frame skb_frame(struct __sk_buff *skb, __u32 hook)
{
	struct frame fr = {
		.skb = skb,
		.data = (void *)(long)skb->data,
		.end = (void *)(long)skb->data_end,
		.hook = hook,
	};

	return fr;
}

static __always_inline struct frame xdp_frame(struct xdp_md *xdp)
{
	struct frame fr = {
		.xdp = xdp,
		.data = (void *)(long)xdp->data,
		.end = (void *)(long)xdp->data_end,
		.hook = HOOK_XDP,
	};

	return fr;
}

static __always_inline __u32 frame_len(const struct frame *fr)
{
	return fr->hook == HOOK_XDP ? bpf_xdp_get_buff_len(fr->xdp) : fr->skb->len;
}

/* ethernet_len returns the length of the link header. TC has the outer tag of a VLAN in the skb's metadata; a second one, or
 * one that was put in early, is in the frame. XDP has the outer one in the frame. */
static __always_inline __u32 ethernet_len(const struct frame *fr)
{
	struct ethhdr *eth = fr->data;

	if ((void *)(eth + 1) > fr->end)
		return L2_ETHERNET;
	return eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD) ? L2_VLAN : L2_ETHERNET;
}

/* network_protocol returns the protocol after a link header that lies in the frame. */
static __always_inline __be16 network_protocol(const struct frame *fr, const __u32 l2)
{
	return l2 == L2_NONE ? (__be16)fr->skb->protocol : *(__be16 *)(fr->data + l2 - 2);
}

/* nat_on_lo picks the packets on lo that NAT may have taken the backend's address from: what leaves a socket of a watched
 * port, and what may have no socket: resets of a closed port, SYN-ACKs with a cookie. */
static __always_inline bool nat_on_lo(const struct frame *fr, const struct node_state *n, const struct tcphdr *tcp)
{
	struct bpf_sock *sk;

	if (fr->hook != HOOK_LOOPBACK || !(n->flags & NODE_NAT_ON_LO))
		return false;
	if (tcp->rst || (tcp->syn && tcp->ack))
		return true;
	sk = fr->skb->sk;
	return sk && watched(n, bpf_htons((__u16)sk->src_port));
}

/* relevant reports whether a packet may be one to or from a backend. */
static __always_inline bool relevant(const struct frame *fr, const struct node_state *n, const struct tcphdr *tcp)
{
	if (fr->hook == HOOK_XDP) /* it sees what goes to backends only */
		return watched(n, tcp->dest);
	return watched(n, tcp->dest) || watched(n, tcp->source) || nat_on_lo(fr, n, tcp);
}

/* fragmented also reports first fragments: only they have ports, and none can be judged alone. */
static __always_inline bool fragmented(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x3fff);
}

/* check_ipv4 returns PARSED when a TCP header follows right after the IP header. */
static __always_inline __u64 check_ipv4(const struct iphdr *ip)
{
	if (ip->protocol != IPPROTO_TCP || ip->version != 4)
		return ip->protocol == IPPROTO_ICMP ? PARSED_ICMP : pass(REASON_FOREIGN);
	if (ip->ihl < 5)
		return pass(REASON_SHORT);
	if (fragmented(ip))
		return pass(REASON_FRAGMENT);
	return ip->ihl == 5 ? PARSED : pass(REASON_IP_OPTIONS);
}

static __always_inline __u64 check_ipv6(const struct ipv6hdr *ip)
{
	if (ip->version != 6)
		return pass(REASON_FOREIGN);
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		return PARSED;
	case IPPROTO_ICMPV6:
		return PARSED_ICMP_V6;
	case IPPROTO_FRAGMENT:
		return pass(REASON_FRAGMENT);
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return pass(REASON_EXTENSION_HEADER);
	default:
		return pass(REASON_FOREIGN);
	}
}

/* take_ipv4 and take_ipv6 fill the addresses of a key. */
static __always_inline void take_ipv4(struct flow_key *key, const struct iphdr *ip)
{
	map_v4(key->client, ip->saddr);
	map_v4(key->backend, ip->daddr);
}

static __always_inline void take_ipv6(struct flow_key *key, const struct ipv6hdr *ip)
{
	__builtin_memcpy(key->client, &ip->saddr, 16);
	__builtin_memcpy(key->backend, &ip->daddr, 16);
}

static __always_inline void take_tcp(struct packet *pkt, const struct tcphdr *tcp)
{
	pkt->tcp_len = tcp->doff * 4;
	pkt->flags = ((__u8 *)tcp)[13];
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->key.client_port_be = tcp->source;
	pkt->key.backend_port_be = tcp->dest;
}

/* parse_headers fills all of pkt but the payload's length, and total with the length by the IP header. Like parse it writes
 * nothing before the packet is found relevant. */
static __always_inline __u64 parse_headers(const struct frame *fr, const struct node_state *n, struct packet *pkt,
					   const __u32 l2, __u32 *total)
{
	struct tcphdr *tcp;
	__be16 proto;
	__u64 d;

	if (l2 != L2_NONE && fr->data + l2 > fr->end)
		return pass(REASON_SHORT);
	proto = network_protocol(fr, l2);
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = fr->data + l2;

		if ((void *)(ip + 1) > fr->end)
			return pass(REASON_SHORT);
		d = check_ipv4(ip);
		if (d != PARSED)
			return d;
		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > fr->end)
			return pass(REASON_SHORT);
		if (!relevant(fr, n, tcp))
			return pass(REASON_FOREIGN);
		__builtin_memset(pkt, 0, sizeof(*pkt));
		take_ipv4(&pkt->key, ip);
		pkt->l4 = l2 + sizeof(*ip);
		*total = bpf_ntohs(ip->tot_len);
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = fr->data + l2;

		if ((void *)(ip + 1) > fr->end)
			return pass(REASON_SHORT);
		d = check_ipv6(ip);
		if (d != PARSED)
			return d;
		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > fr->end)
			return pass(REASON_SHORT);
		if (!relevant(fr, n, tcp))
			return pass(REASON_FOREIGN);
		__builtin_memset(pkt, 0, sizeof(*pkt));
		take_ipv6(&pkt->key, ip);
		pkt->v6 = 1;
		pkt->l4 = l2 + sizeof(*ip);
		*total = bpf_ntohs(ip->payload_len) ? sizeof(*ip) + bpf_ntohs(ip->payload_len) : 0;
	} else {
		return pass(REASON_FOREIGN);
	}
	pkt->hook = fr->hook;
	pkt->l3 = l2;
	take_tcp(pkt, tcp);
	return PARSED;
}

/* measure fills in the payload's length. It is the IP header's, not the frame's: Ethernet pads short frames. total 0 means
 * larger than 64 KiB. */
static __always_inline __u64 measure(const struct frame *fr, struct packet *pkt, __u32 total)
{
	__u32 headers = pkt->l4 - pkt->l3 + pkt->tcp_len, len = frame_len(fr);

	if (!total)
		total = len - pkt->l3;
	if (pkt->tcp_len < sizeof(struct tcphdr) || total < headers || len < pkt->l3 + total)
		return pass(REASON_SHORT);
	pkt->payload = total - headers;
	return PARSED;
}

/* parse fills pkt when the packet is relevant, and returns PARSED; otherwise PARSED_ICMP, PARSED_ICMP_V6 or the decision about
 * the packet. Until then it writes nothing: most packets are not for us. l2 is a constant of the program. */
static __always_inline __u64 parse(const struct frame *fr, const struct node_state *n, struct packet *pkt, const __u32 l2)
{
	__u32 total = 0;
	__u64 d = parse_headers(fr, n, pkt, l2, &total);

	return d == PARSED ? measure(fr, pkt, total) : d;
}
