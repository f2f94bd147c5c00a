/* Parsing of a frame to a TCP packet, for TC and XDP. Headers are read by direct access at constant offsets for each length of
 * the link header. The payload is not: locally generated and merged packets keep it in page fragments. */
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
#define PARSED_ICMP (~0ULL - 1) /* may be an ICMP error that quotes a TCP packet, see icmp.h */
#define PARSED_ICMP_V6 (~0ULL - 2)

_Static_assert(sizeof(((struct node_state *)0)->ports) * 8 == 65536, "a bit for each port");

static __always_inline bool is_backend_port(const struct node_state *n, __be16 port_be)
{
	__u16 port = bpf_ntohs(port_be);

	/* In bounds: port / 64 is below 1024 for every 16-bit port. */
	return n->ports[port / 64] & (1ULL << (port % 64));
}

/* The frame of a program. hook is a constant of the program and selects the context, so that the compiler omits code for other
 * contexts. */
struct frame {
	struct __sk_buff *skb;
	struct xdp_md *xdp; /* HOOK_XDP only; then skb is NULL */
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

/* ethernet_len returns the length of the link header. In TC the outer VLAN tag is in the skb's metadata; the frame holds a
 * second tag, or one that was inserted by software. In XDP the frame holds the outer tag. */
static __always_inline __u32 ethernet_len(const struct frame *fr)
{
	struct ethhdr *eth = fr->data;

	if ((void *)(eth + 1) > fr->end)
		return L2_ETHERNET;
	return eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD) ? L2_VLAN : L2_ETHERNET;
}

/* network_protocol returns the protocol after a link header of length l2, which the caller has checked to lie in the frame. */
static __always_inline __be16 network_protocol(const struct frame *fr, const __u32 l2)
{
	return l2 == L2_NONE ? (__be16)fr->skb->protocol : *(__be16 *)(fr->data + l2 - 2);
}

/* may_be_translated reports whether NAT may have changed the backend's address in a packet on lo: its socket has a backend's
 * port, or it may have no socket, as the reset of a closed port or a SYN-ACK with a SYN cookie. */
static __always_inline bool may_be_translated(const struct frame *fr, const struct node_state *n, const struct tcphdr *tcp)
{
	struct bpf_sock *sk;

	if (fr->hook != HOOK_LOOPBACK || !(n->flags & NODE_NAT_ON_LO))
		return false;
	if (tcp->rst || (tcp->syn && tcp->ack))
		return true;
	sk = fr->skb->sk;
	return sk && is_backend_port(n, bpf_htons((__u16)sk->src_port));
}

/* relevant reports whether a packet may go to or come from a backend. */
static __always_inline bool relevant(const struct frame *fr, const struct node_state *n, const struct tcphdr *tcp)
{
	if (fr->hook == HOOK_XDP) /* XDP handles packets to backends only */
		return is_backend_port(n, tcp->dest);
	return is_backend_port(n, tcp->dest) || is_backend_port(n, tcp->source) || may_be_translated(fr, n, tcp);
}

/* fragmented also reports first fragments: later fragments have no ports, so none is decided alone. */
static __always_inline bool fragmented(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x3fff);
}

/* check_ipv4 returns PARSED if a TCP header follows the IP header without options. */
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

/* read_ipv4 and read_ipv6 copy the addresses of an IP header to a key. */
static __always_inline void read_ipv4(struct flow_key *key, const struct iphdr *ip)
{
	map_v4(key->client, ip->saddr);
	map_v4(key->backend, ip->daddr);
}

static __always_inline void read_ipv6(struct flow_key *key, const struct ipv6hdr *ip)
{
	__builtin_memcpy(key->client, &ip->saddr, 16);
	__builtin_memcpy(key->backend, &ip->daddr, 16);
}

static __always_inline void read_tcp(struct packet *pkt, const struct tcphdr *tcp)
{
	pkt->tcp_len = tcp->doff * 4;
	pkt->flags = ((__u8 *)tcp)[13];
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->key.client_port_be = tcp->source;
	pkt->key.backend_port_be = tcp->dest;
}

/* parse_headers fills all of pkt except the length of the payload, and sets total to the packet's length according to the IP
 * header. Each header is compared with fr->end before it is read. As parse does, it writes nothing for an irrelevant packet. */
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
		read_ipv4(&pkt->key, ip);
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
		read_ipv6(&pkt->key, ip);
		pkt->v6 = 1;
		pkt->l4 = l2 + sizeof(*ip);
		*total = bpf_ntohs(ip->payload_len) ? sizeof(*ip) + bpf_ntohs(ip->payload_len) : 0;
	} else {
		return pass(REASON_FOREIGN);
	}
	pkt->hook = fr->hook;
	pkt->l3 = l2;
	read_tcp(pkt, tcp);
	return PARSED;
}

/* set_payload sets the length of the payload. It comes from the IP header and not from the frame, because Ethernet pads short
 * frames. total 0 means longer than 64 KiB. */
static __always_inline __u64 set_payload(const struct frame *fr, struct packet *pkt, __u32 total)
{
	__u32 headers = pkt->l4 - pkt->l3 + pkt->tcp_len, len = frame_len(fr);

	if (!total)
		total = len - pkt->l3;
	if (pkt->tcp_len < sizeof(struct tcphdr) || total < headers || len < pkt->l3 + total)
		return pass(REASON_SHORT);
	pkt->payload = total - headers;
	return PARSED;
}

/* parse fills pkt if the packet is relevant, and returns PARSED; otherwise it returns PARSED_ICMP, PARSED_ICMP_V6 or the
 * decision. It writes nothing for an irrelevant packet, because most packets are. l2 is a constant of the program. */
static __always_inline __u64 parse(const struct frame *fr, const struct node_state *n, struct packet *pkt, const __u32 l2)
{
	__u32 total = 0;
	__u64 d = parse_headers(fr, n, pkt, l2, &total);

	return d == PARSED ? set_payload(fr, pkt, total) : d;
}
