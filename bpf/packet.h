/* A TCP packet, and the decision about it. */
#pragma once

#include "types.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

/* A TCP packet. The parser takes its source for the client; swap_key turns the key of a packet from a backend round. */
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
	__u32 target; /* index in targets */
	/* What a decision still needs when it is carried out. */
	__u64 until; /* when to try again, 0 = unknown */
	__u32 skip; /* where in the payload the request begins */
	__u8 bare; /* no answer fits here: both sides are reset */
	__u8 head; /* the request is a HEAD */
	__u8 first; /* the first segment after a SYN that was answered */
	__u8 nat; /* on lo: not the addresses of its socket, so connection tracking has changed them */
};

/* Decisions that the program carries out after the deciding function has returned: the kernel allows 512 bytes of
 * stack for a whole chain of calls. */
enum todo {
	TODO_REJECT_SYN = ACTION_MAX,
	TODO_REJECT_REQUEST,
	TODO_COOKIE_PACKET, /* acknowledges a cookie */
	TODO_ANSWERED_PACKET, /* of a connection whose request was answered */
	TODO_FLOW, /* a flow was just made: decide as for any other of its packets */
};

static __always_inline __u64 decision(__u32 action, __u32 reason)
{
	return (__u64)action << 32 | reason;
}

static __always_inline __u64 pass(enum reason reason)
{
	return decision(ACTION_PASS, reason);
}

static __always_inline void map_v4(__u8 *addr, __be32 v4)
{
	__builtin_memset(addr, 0, 10);
	addr[10] = 0xff;
	addr[11] = 0xff;
	__builtin_memcpy(addr + 12, &v4, 4);
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
