/* Initial sequence numbers of the kernel's SYN-ACKs: a keyed hash of the connection's four-tuple. No state is stored between a
 * SYN and its request: the acknowledgement of a later packet identifies the kernel's SYN-ACK. The hash is SipHash-2-4 (Aumasson
 * and Bernstein, 2012), because clients see its output.
 *
 *   21 bits  of the hash of the four-tuple. A packet of a connection that is not followed matches by chance once in two
 *            million, and is checked only within two minutes after its circuit answered a SYN.
 *    8 bits  of a second hash, of the client's sequence number. They distinguish the first segment from later ones while
 *            no state of the connection is stored.
 *    3 bits  reason for which the SYN was answered, so that the answer has the same reason. */
#pragma once

#include "verdict.h"
#include "parse.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define SIP_ROUND                                                                                                              \
	do {                                                                                                                   \
		v0 += v1;                                                                                                      \
		v1 = ROTL(v1, 13) ^ v0;                                                                                        \
		v0 = ROTL(v0, 32);                                                                                             \
		v2 += v3;                                                                                                      \
		v3 = ROTL(v3, 16) ^ v2;                                                                                        \
		v0 += v3;                                                                                                      \
		v3 = ROTL(v3, 21) ^ v0;                                                                                        \
		v2 += v1;                                                                                                      \
		v1 = ROTL(v1, 17) ^ v2;                                                                                        \
		v2 = ROTL(v2, 32);                                                                                             \
	} while (0)

#define COOKIE_REASON 0x7U
#define COOKIE_FIRST_SHIFT 3
#define COOKIE_FIRST 0x7f8U
#define COOKIE_TUPLE (~(COOKIE_FIRST | COOKIE_REASON))

_Static_assert(REJECTIONS <= COOKIE_REASON + 1, "a reason fits its bits of a cookie");
_Static_assert(COOKIE_FIRST == 0xffU << COOKIE_FIRST_SHIFT && !(COOKIE_FIRST & COOKIE_REASON), "the parts do not overlap");
_Static_assert(sizeof(struct flow_key) == 36, "tuple_hash reads the whole key");

__noinline __u64 tuple_hash(const struct node_state *n, const struct flow_key *key)
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
	return v0 ^ v1 ^ v2 ^ v3;
}

/* first_bits returns eight bits of the client's number, masked with the upper half of the hash. They differ for every segment
 * that begins 16 to 4,080 bytes after the first one: gRPC clients send the 24 bytes of the preface of HTTP/2 alone. Later segments
 * match if they begin within 15 bytes of a multiple of 4,096. Segments of 1,400 or 1,388 bytes do not among the ten that a client
 * sends before an acknowledgement (RFC 6928). A later segment that matches and arrives before the first one gets a reset. */
static __always_inline __u32 first_bits(__u64 hash, __u32 isn)
{
	return ((isn + (__u32)(hash >> 32)) >> 4 & 0xff) << COOKIE_FIRST_SHIFT;
}

static __always_inline __u32 cookie(__u64 hash, __u32 isn, __u32 reason)
{
	return ((__u32)hash & COOKIE_TUPLE) | first_bits(hash, isn) | (reason - REASON_OPEN);
}

#define ANSWERING_TIME (120ULL * 1000000000)
#define ANSWERING_STEP (1ULL * 1000000000)

/* extend_answering extends the time for which packets are checked for a cookie to ANSWERING_TIME from now: a client may send
 * such a packet that long after its SYN was answered. The field is written at most once a second, because every CPU reads
 * it. */
static __always_inline void extend_answering(__u64 *until, __u64 now)
{
	if (READ_ONCE(*until) < now + ANSWERING_TIME - ANSWERING_STEP)
		*(volatile __u64 *)until = now + ANSWERING_TIME;
}

/* cookie_reason returns the reason in the cookie that a packet acknowledges, that is, why the SYN of its connection was
 * answered. It returns 0 if the packet acknowledges no cookie. It sets pkt->first_segment if the packet directly follows that
 * SYN. */
static __always_inline __u32 cookie_reason(const struct node_state *n, struct circuit *c, struct packet *pkt)
{
	__u32 number = pkt->ack - 1;
	__u64 hash;

	if (!(pkt->flags & TCP_ACK) || (number & COOKIE_REASON) >= REJECTIONS ||
	    bpf_ktime_get_coarse_ns() >= READ_ONCE(c->answering_until))
		return 0;
	hash = tuple_hash(n, &pkt->key);
	if ((number ^ (__u32)hash) & COOKIE_TUPLE)
		return 0;
	pkt->first_segment = (number & COOKIE_FIRST) == first_bits(hash, pkt->seq - 1);
	return REASON_OPEN + (number & COOKIE_REASON);
}
