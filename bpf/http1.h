/* HTTP/1.x: methods, and the end of chunked messages (RFC 9112). Chunks are not parsed: a chunked message has ended if the last
 * bytes sent are a last chunk without trailers. */
#pragma once

#include "head.h"

static __always_inline __u32 method4(const char *m)
{
	return (__u32)m[0] | (__u32)m[1] << 8 | (__u32)m[2] << 16 | (__u32)m[3] << 24;
}

#define IS(m) ((word & mask) == (method4(m) & mask))

enum method { METHOD_NONE, METHOD_OTHER, METHOD_HEAD, METHOD_CONNECT };

/* load_word loads up to four bytes at pkt->skip, and sets mask to those that the payload has. It returns false if there are
 * none. */
static __always_inline bool load_word(struct __sk_buff *skb, const struct packet *pkt, __u32 *word, __u32 *mask)
{
	__u32 at = pkt->l4 + pkt->tcp_len + pkt->skip;

	*word = 0;
	switch (pkt->payload - pkt->skip) {
	case 0:
		return false;
	case 1:
		*mask = 0xff;
		return !bpf_skb_load_bytes(skb, at, word, 1);
	case 2:
		*mask = 0xffff;
		return !bpf_skb_load_bytes(skb, at, word, 2);
	case 3:
		*mask = 0xffffff;
		return !bpf_skb_load_bytes(skb, at, word, 3);
	default:
		*mask = 0xffffffff;
		return !bpf_skb_load_bytes(skb, at, word, 4);
	}
}

/* method returns the method at pkt->skip. One to three bytes match every method that begins with them. */
static __always_inline enum method method(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 word, mask;

	if (!load_word(skb, pkt, &word, &mask))
		return METHOD_NONE;
	if (IS("GET ") || IS("POST") || IS("PUT ") || IS("DELE") || IS("PATC") || IS("OPTI"))
		return METHOD_OTHER;
	if (IS("HEAD"))
		return METHOD_HEAD;
	if (IS("CONN"))
		return METHOD_CONNECT;
	/* The rest of IANA's registry, and PURGE, NOTIFY, (UN)SUBSCRIBE and M-SEARCH. PRI is not included: it begins HTTP/2. */
	if (IS("TRAC") || IS("QUER") || IS("PROP") || IS("REPO") || IS("SEAR") || IS("MKCO") || IS("MKCA") || IS("MKAC") ||
	    IS("MKRE") || IS("MKWO") || IS("COPY") || IS("MOVE") || IS("LOCK") || IS("UNLO") || IS("ACL ") || IS("BIND") ||
	    IS("UNBI") || IS("REBI") || IS("LINK") || IS("UNLI") || IS("MERG") || IS("UPDA") || IS("LABE") || IS("BASE") ||
	    IS("CHEC") || IS("UNCH") || IS("VERS") || IS("ORDE") || IS("PURG") || IS("NOTI") || IS("SUBS") || IS("UNSU") ||
	    IS("M-SE"))
		return METHOD_OTHER;
	return METHOD_NONE;
}

#define LAST_CHUNK WORD(0, '\r', '\n', '0', '\r', '\n', '\r', '\n')

/* tail_after returns the last 8 bytes sent up to the end of this packet; tail has those sent before it. Unknown bytes are 0.
 * gap: bytes before the packet are missing. The latest byte is the highest. */
__noinline __u64 tail_after(struct __sk_buff *skb, const struct packet *pkt, __u64 tail, bool gap)
{
	__u64 last = 0;
	__u32 n, at;

	if (!pkt || !pkt->payload)
		return tail;
	n = pkt->payload < 8 ? pkt->payload : 8;
	at = pkt->l4 + pkt->tcp_len + pkt->payload - n;
	n -= 1;
	asm volatile("" : "+r"(n));
	n &= 7;
	if (bpf_skb_load_bytes(skb, at, &last, n + 1))
		return 0;
	if (n == 7)
		return last;
	last <<= 56 - 8 * n;
	return gap ? last : last | tail >> (8 * n + 8);
}

static __always_inline bool ends_chunks(__u64 tail)
{
	return (tail & ~0xffULL) == LAST_CHUNK;
}

/* http1_response_ended reports whether the last response is known to end at seq. */
static __always_inline bool http1_response_ended(const struct http1_state *h, __u32 seq)
{
	if (h->response_framing == FRAMING_CHUNKED && !ends_chunks(h->backend_tail))
		return false;
	return h->response_framing != FRAMING_UNKNOWN && h->response_end == seq;
}
