/* The PROXY protocol: a header with the client's address that a load balancer sends before the client's data
 * (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). The header is skipped and its content ignored. */
#pragma once

#include "maps.h"
#include "parse.h"

#define PROXY_V1_MAX 107
#define PROXY_V2_HEAD 16

struct line_end {
	const __u8 *bytes;
	__u32 len;
	__u32 at;
};

static long line_step(__u32 step, struct line_end *l)
{
	if (l->at >= l->len)
		return 1;
	return l->bytes[l->at++ & (HEAD_MAX - 1)] == '\n';
}

/* proxy_header returns the length of the PROXY header at the beginning of the payload; 0 if there is none, or if a header of
 * version 1 does not end in this packet. */
__noinline __u32 proxy_header(struct __sk_buff *skb, const struct packet *pkt)
{
	static const __u8 v2[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
	__u32 zero = 0, at, n;
	struct line_end l = {};
	struct head_bytes *b = bpf_map_lookup_elem(&heads, &zero);

	if (!pkt || !b || pkt->payload < PROXY_V2_HEAD)
		return 0;
	at = pkt->l4 + pkt->tcp_len;
	n = (pkt->payload < PROXY_V1_MAX ? pkt->payload : PROXY_V1_MAX) - 1;
	/* In bounds: 1 <= n + 1 <= 128. The mask makes it visible to the verifier. */
	asm volatile("" : "+r"(n));
	n &= 127;
	if (bpf_skb_load_bytes(skb, at, b->bytes, n + 1))
		return 0;
	if (!__builtin_memcmp(b->bytes, v2, sizeof(v2)))
		return PROXY_V2_HEAD + ((__u32)b->bytes[14] << 8 | b->bytes[15]);
	if (__builtin_memcmp(b->bytes, "PROXY ", 6))
		return 0;
	l.bytes = b->bytes;
	l.len = n + 1;
	bpf_loop(PROXY_V1_MAX, line_step, &l, 0);
	/* line_step stops after the line feed, or at the end of the bytes. */
	return l.at && b->bytes[(l.at - 1) & 127] == '\n' ? l.at : 0;
}

/* opening_of classifies first bytes of a connection that are neither a request nor a PROXY header. */
static __always_inline enum opening opening_of(struct __sk_buff *skb, const struct packet *pkt)
{
	__u8 b[4] = {};

	if (pkt->payload < sizeof(b) || bpf_skb_load_bytes(skb, pkt->l4 + pkt->tcp_len, b, sizeof(b)))
		return OPENING_OTHER;
	if (b[0] == 0x16 && b[1] == 3)
		return OPENING_TLS; /* a handshake record */
	return OPENING_OTHER;
}
