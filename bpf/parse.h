/* From an skb to a TCP packet. Headers are read by direct access, in constant offsets for each link header length;
 * payload never is: local and merged packets keep it in fragments. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include "types.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

#define L2_NONE 0
#define L2_ETHERNET ETH_HLEN
#define L2_VLAN (ETH_HLEN + 4)

/* A TCP packet. key is oriented by orient(): as parsed, client is the source and backend the destination. */
struct packet {
	struct flow_key key;
	__u32 seq;
	__u32 ack;
	__u32 payload; /* bytes after the TCP header */
	__u32 l3; /* offset of the IP header */
	__u32 l4; /* offset of the TCP header */
	__u8 tcp_len;
	__u8 flags;
	__u8 v6;
	__u8 hook; /* enum hook */
	__u32 circuit;
	/* What a decision still needs when it is carried out. */
	__u64 until; /* when to try again, 0 = unknown */
	__u32 bare; /* no answer fits here: both sides are reset */
	__u32 head; /* the request is a HEAD */
	__u32 skip; /* where in the payload the request begins */
	__u32 nat; /* on lo: not the addresses of its socket, so connection tracking has changed them */
};

/* Decisions that the program carries out after the deciding function has returned: the kernel allows 512 bytes of
 * stack for a whole chain of calls. */
enum todo {
	TODO_REJECT_SYN = ACTION_MAX,
	TODO_REJECT_REQUEST,
	TODO_OF_COOKIE,
	TODO_OF_ANSWERED,
	TODO_OF_FLOW,
};

static __always_inline __u64 decision(__u32 action, __u32 reason)
{
	return (__u64)action << 32 | reason;
}

#define PARSED (~0ULL)
#define PARSED_ICMP (~0ULL - 1) /* not TCP: it may be an error about a TCP packet, see icmp.h */
#define PARSED_ICMP_V6 (~0ULL - 2)

static __always_inline void map_v4(__u8 *addr, __be32 v4)
{
	__builtin_memset(addr, 0, 10);
	addr[10] = 0xff;
	addr[11] = 0xff;
	__builtin_memcpy(addr + 12, &v4, 4);
}

static __always_inline bool watched(const struct node_state *n, __be16 port_be)
{
	__u16 port = bpf_ntohs(port_be);

	/* port / 64 is below 1024 for every 16-bit port. */
	return n->ports[port / 64] & (1ULL << (port % 64));
}

/* nat_on_lo picks the packets on lo that NAT may have taken the backend's address from: what leaves a socket of a watched
 * port, and what may have no socket: resets of a closed port, SYN-ACKs with a cookie. hook is a constant of the client. */
static __always_inline bool nat_on_lo(struct __sk_buff *skb, const struct node_state *n, const __u32 hook,
				      const struct tcphdr *tcp)
{
	struct bpf_sock *sk;

	if (hook != HOOK_LOOPBACK || !(n->flags & NODE_NAT_ON_LO))
		return false;
	if (tcp->rst || (tcp->syn && tcp->ack))
		return true;
	sk = skb->sk;
	return sk && watched(n, bpf_htons((__u16)sk->src_port));
}

/* parse fills pkt when one of the packet's ports is watched (or nat_on_lo says so), and returns PARSED; otherwise PARSED_ICMP,
 * PARSED_ICMP_V6 or the decision about the packet. Until then it writes nothing: most packets are not for us. l2 is a constant
 * of the client. */
static __always_inline __u64 parse(struct __sk_buff *skb, const struct node_state *n, struct packet *pkt, __u32 hook,
				   const __u32 l2)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u32 l3_len, total;
	struct tcphdr *tcp;
	__be16 proto;

	if (l2 == L2_NONE) {
		proto = (__be16)skb->protocol;
	} else {
		struct ethhdr *eth = data;

		if (data + l2 > end)
			return decision(ACTION_PASS, REASON_SHORT);
		proto = l2 == L2_VLAN ? *(__be16 *)(data + L2_VLAN - 2) : eth->h_proto;
	}

	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + l2;

		if ((void *)(ip + 1) > end)
			return decision(ACTION_PASS, REASON_SHORT);
		if (ip->protocol != IPPROTO_TCP || ip->version != 4)
			return ip->protocol == IPPROTO_ICMP ? PARSED_ICMP : decision(ACTION_PASS, REASON_FOREIGN);
		if (ip->ihl < 5)
			return decision(ACTION_PASS, REASON_SHORT);
		/* More fragments or an offset: only the first has ports, and none can be judged alone. */
		if (ip->frag_off & bpf_htons(0x3fff))
			return decision(ACTION_PASS, REASON_FRAGMENT);
		if (ip->ihl != 5)
			return decision(ACTION_PASS, REASON_IP_OPTIONS);
		l3_len = sizeof(*ip);
		total = bpf_ntohs(ip->tot_len);
		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > end)
			return decision(ACTION_PASS, REASON_SHORT);
		if (!watched(n, tcp->dest) && !watched(n, tcp->source) && !nat_on_lo(skb, n, hook, tcp))
			return decision(ACTION_PASS, REASON_FOREIGN);
		__builtin_memset(pkt, 0, sizeof(*pkt));
		map_v4(pkt->key.client, ip->saddr);
		map_v4(pkt->key.backend, ip->daddr);
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + l2;

		if ((void *)(ip + 1) > end)
			return decision(ACTION_PASS, REASON_SHORT);
		if (ip->version != 6)
			return decision(ACTION_PASS, REASON_FOREIGN);
		if (ip->nexthdr == IPPROTO_FRAGMENT)
			return decision(ACTION_PASS, REASON_FRAGMENT);
		if (ip->nexthdr == IPPROTO_HOPOPTS || ip->nexthdr == IPPROTO_ROUTING || ip->nexthdr == IPPROTO_DSTOPTS ||
		    ip->nexthdr == IPPROTO_AH)
			return decision(ACTION_PASS, REASON_EXTENSION_HEADER);
		if (ip->nexthdr != IPPROTO_TCP)
			return ip->nexthdr == IPPROTO_ICMPV6 ? PARSED_ICMP_V6 : decision(ACTION_PASS, REASON_FOREIGN);
		l3_len = sizeof(*ip);
		total = bpf_ntohs(ip->payload_len);
		if (total)
			total += sizeof(*ip);
		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > end)
			return decision(ACTION_PASS, REASON_SHORT);
		if (!watched(n, tcp->dest) && !watched(n, tcp->source) && !nat_on_lo(skb, n, hook, tcp))
			return decision(ACTION_PASS, REASON_FOREIGN);
		__builtin_memset(pkt, 0, sizeof(*pkt));
		__builtin_memcpy(pkt->key.client, &ip->saddr, 16);
		__builtin_memcpy(pkt->key.backend, &ip->daddr, 16);
		pkt->v6 = 1;
	} else {
		return decision(ACTION_PASS, REASON_FOREIGN);
	}

	pkt->hook = hook;
	pkt->l3 = l2;
	pkt->l4 = l2 + l3_len;
	pkt->tcp_len = tcp->doff * 4;
	pkt->flags = ((__u8 *)tcp)[13];
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->key.client_port_be = tcp->source;
	pkt->key.backend_port_be = tcp->dest;

	/* The IP header's length, not the skb's: Ethernet pads short frames. 0 means larger than 64 KiB. */
	if (!total)
		total = skb->len - l2;
	if (pkt->tcp_len < sizeof(*tcp) || total < l3_len + pkt->tcp_len || skb->len < l2 + total)
		return decision(ACTION_PASS, REASON_SHORT);
	pkt->payload = total - l3_len - pkt->tcp_len;
	return PARSED;
}

/* is_syn also matches SYNs that ask for ECN. */
static __always_inline bool is_syn(const struct packet *pkt)
{
	return (pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* before compares sequence numbers. */
static __always_inline bool before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* swap_key turns the key of a packet from a backend round. */
static __always_inline void swap_key(struct flow_key *key)
{
	struct flow_key k = *key;

	__builtin_memcpy(key->client, k.backend, 16);
	__builtin_memcpy(key->backend, k.client, 16);
	key->client_port_be = k.backend_port_be;
	key->backend_port_be = k.client_port_be;
}

struct tcp_options {
	__u32 mss; /* 0 = none */
	__u32 has_ts;
	__be32 ts_val;
	__be32 ts_ecr;
};

struct option_walk {
	struct __sk_buff *skb;
	__u32 at; /* offset in the packet */
	__u32 end;
	struct tcp_options out;
};

static long option_step(__u32 step, struct option_walk *w)
{
	__u8 head[2] = {}, mss[2];
	__be32 ts[2];

	if (w->at >= w->end || bpf_skb_load_bytes(w->skb, w->at, head, 1) || head[0] == 0)
		return 1;
	if (head[0] == 1) {
		w->at++;
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->at, head, 2) || head[1] < 2)
		return 1;
	if (head[0] == 2 && head[1] == 4 && !bpf_skb_load_bytes(w->skb, w->at + 2, mss, sizeof(mss)))
		w->out.mss = (__u32)mss[0] << 8 | mss[1];
	if (head[0] == 8 && head[1] == 10 && !bpf_skb_load_bytes(w->skb, w->at + 2, ts, sizeof(ts))) {
		w->out.has_ts = 1;
		w->out.ts_val = ts[0];
		w->out.ts_ecr = ts[1];
	}
	w->at += head[1];
	return 0;
}

/* Reads MSS and timestamps. There is room for 40 options of one byte. */
__noinline int tcp_options(struct __sk_buff *skb, const struct packet *pkt, struct tcp_options *out)
{
	struct option_walk w = { .skb = skb };

	if (!pkt || !out)
		return 0;
	w.at = pkt->l4 + sizeof(struct tcphdr);
	w.end = pkt->l4 + pkt->tcp_len;
	bpf_loop(40, option_step, &w, 0);
	*out = w.out;
	return 0;
}
