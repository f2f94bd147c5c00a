/* A TCP packet, and the decision about it. */
#pragma once

#include "types.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

/* A TCP packet. The parser stores the source as the client; swap_key exchanges both sides for a packet of a backend. */
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
	/* Used when a decision is carried out. */
	__u64 until; /* time of the next admission, 0 = unknown */
	__u32 skip; /* offset of the request in the payload */
	__u8 no_answer; /* no answer fits the stream: both sides get a reset */
	__u8 is_head; /* the request is a HEAD */
	__u8 first_segment; /* first segment after a SYN that the kernel answered */
	__u8 nat; /* on lo: its addresses differ from those of its socket, so NAT has changed them */
};

/* Decisions that carry_out completes after the deciding function has returned: the whole chain of calls has 512 bytes of
 * stack. */
enum todo {
	TODO_REJECT_SYN = ACTION_MAX,
	TODO_REJECT_REQUEST,
	TODO_COOKIE_PACKET, /* acknowledges a cookie */
	TODO_ANSWERED_PACKET, /* on a connection whose request was answered */
	TODO_FLOW, /* flow created: decide as for any packet of a flow */
	TODO_HTTP2_CLIENT, /* the first that calls a stage; the order is that of enum stage_index */
	TODO_HTTP2_BACKEND,
	TODO_HTTP2_KEPT,
	TODO_HTTP2_REJECT, /* argument: the reason */
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

/* swap_key exchanges the client and the backend of a key. */
static __always_inline void swap_key(struct flow_key *key)
{
	struct flow_key k = *key;

	__builtin_memcpy(key->client, k.backend, 16);
	__builtin_memcpy(key->backend, k.client, 16);
	key->client_port_be = k.backend_port_be;
	key->backend_port_be = k.client_port_be;
}
