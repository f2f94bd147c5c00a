/* NAT on lo. If a process connects to a virtual address that NAT translates to a listener of the same host, NAT changes the
 * packets of both directions before lo: requests have the backend's address, responses the virtual one. The socket of a packet
 * has the addresses before NAT. */
#pragma once

#include "flow.h"
#include "parse.h"

/* socket_key sets own to the addresses of the socket that sends a packet, its own as the client's. It returns false without a
 * socket or for one without a peer, such as the kernel's control sockets and listeners. Every other kind of socket has these
 * fields, those of handshakes and of TIME-WAIT included. */
static __always_inline bool socket_key(struct __sk_buff *skb, const struct packet *pkt, struct flow_key *own)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || !sk->dst_port)
		return false;
	if (pkt->v6) {
		__u32 *src = (__u32 *)own->client, *dst = (__u32 *)own->backend;

		src[0] = sk->src_ip6[0];
		src[1] = sk->src_ip6[1];
		src[2] = sk->src_ip6[2];
		src[3] = sk->src_ip6[3];
		dst[0] = sk->dst_ip6[0];
		dst[1] = sk->dst_ip6[1];
		dst[2] = sk->dst_ip6[2];
		dst[3] = sk->dst_ip6[3];
	} else {
		map_v4(own->client, sk->src_ip4);
		map_v4(own->backend, sk->dst_ip4);
	}
	own->client_port_be = bpf_htons((__u16)sk->src_port);
	own->backend_port_be = sk->dst_port;
	return true;
}

static __always_inline bool same_key(const struct flow_key *a, const struct flow_key *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 differ = 0;

	_Static_assert(sizeof(*a) % 4 == 0, "the key is compared in words");
#pragma unroll
	for (int i = 0; i < sizeof(*a) / 4; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* undo_nat finds the connection of a response that NAT has changed, sets pkt->key to its key and returns 1. For a packet of the
 * client it sets pkt->nat if NAT has changed the packet. */
__noinline int undo_nat(struct __sk_buff *skb, struct packet *pkt, const struct node_state *n)
{
	struct flow_key own __attribute__((aligned(4))) = {}, *real;

	if (!pkt || !n)
		return 0;
	if (socket_key(skb, pkt, &own)) {
		if (same_key(&own, &pkt->key))
			return 0;
		pkt->nat = 1;
		swap_key(&own);
		/* No flow has the client's socket as its backend, so the lookup matches responses only. */
		if (is_backend_port(n, own.backend_port_be) && find_flow(&own)) {
			pkt->key = own;
			return 1;
		}
	}
	/* The RST of a closed port has no socket, and a socket that is reset has released its port. A SYN-ACK with a SYN cookie
	 * has no socket yet. */
	if (!(pkt->flags & TCP_RST) && (pkt->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK))
		return 0;
	own = pkt->key;
	swap_key(&own);
	real = bpf_map_lookup_elem(&nat_flows, &own);
	if (!real || !find_flow(real))
		return 0;
	pkt->key = *real;
	return 1;
}

/* store_nat_flow stores the key of an admitted connection under the addresses of the client's socket. */
__noinline int store_nat_flow(struct __sk_buff *skb, const struct packet *pkt)
{
	struct flow_key own __attribute__((aligned(4))) = {}, key;

	if (!pkt || !socket_key(skb, pkt, &own))
		return 0;
	/* A SYN may reuse the ports of a connection to another backend. */
	if (is_syn(pkt) || !bpf_map_lookup_elem(&nat_flows, &own)) {
		key = pkt->key;
		bpf_map_update_elem(&nat_flows, &own, &key, BPF_ANY);
	}
	return 0;
}

/* is_admitted reports whether a decision admits a connection or a request, to which a backend may reply with a reset. */
static __always_inline bool is_admitted(__u64 d)
{
	__u32 reason = (__u32)d;

	return d >> 32 == ACTION_PASS && reason >= REASON_ADMITTED && reason <= REASON_LEASE_EXPIRED;
}
