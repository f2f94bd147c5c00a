/* Initial sequence numbers of the kernel's own answers: a keyed hash of the connection's four-tuple, so that nothing
 * is stored between a SYN and its request, and any later packet can be told to be ours by what it acknowledges. SipHash-2-4 (Aumasson and Bernstein, 2012), since a caller sees its output. */
#pragma once

#include "parse.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define SIP_ROUND                                                                                                      \
	do {                                                                                                           \
		v0 += v1;                                                                                              \
		v1 = ROTL(v1, 13) ^ v0;                                                                                \
		v0 = ROTL(v0, 32);                                                                                     \
		v2 += v3;                                                                                              \
		v3 = ROTL(v3, 16) ^ v2;                                                                                \
		v0 += v3;                                                                                              \
		v3 = ROTL(v3, 21) ^ v0;                                                                                \
		v2 += v1;                                                                                              \
		v1 = ROTL(v1, 17) ^ v2;                                                                                \
		v2 = ROTL(v2, 32);                                                                                     \
	} while (0)

/* The low bits of the number say why the SYN was answered, so that the answer says so too. */
#define COOKIE_REASON 0x7

__noinline __u32 cookie(const struct node_state *n, const struct flow_key *key)
{
	__u64 v0, v1, v2, v3, m;

	if (!n || !key)
		return 0;
	v0 = n->secret[0] ^ 0x736f6d6570736575ULL;
	v1 = n->secret[1] ^ 0x646f72616e646f6dULL;
	v2 = n->secret[0] ^ 0x6c7967656e657261ULL;
	v3 = n->secret[1] ^ 0x7465646279746573ULL;

	/* Four words of addresses, then the ports: 36 bytes. */
	for (int i = 0; i < 5; i++) {
		if (i < 2)
			__builtin_memcpy(&m, key->client + 8 * i, 8);
		else if (i < 4)
			__builtin_memcpy(&m, key->backend + 8 * (i - 2), 8);
		else
			m = 36ULL << 56 | (__u32)key->client_port_be << 16 | key->backend_port_be;
		v3 ^= m;
		SIP_ROUND;
		SIP_ROUND;
		v0 ^= m;
	}
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return (__u32)(v0 ^ v1 ^ v2 ^ v3) & ~COOKIE_REASON;
}
