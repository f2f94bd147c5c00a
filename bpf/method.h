/* Does a payload begin like an HTTP/1.x request? */
#pragma once

#include "parse.h"

static __always_inline __u32 method4(const char *m)
{
	return (__u32)m[0] | (__u32)m[1] << 8 | (__u32)m[2] << 16 | (__u32)m[3] << 24;
}

#define IS(m) ((word & mask) == (method4(m) & mask))

enum method { METHOD_NONE, METHOD_OTHER, METHOD_HEAD, METHOD_CONNECT };

/* method reads the first bytes of the payload. One to three bytes are taken by what they could become. */
static __always_inline enum method method(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 at = pkt->l4 + pkt->tcp_len, word = 0, mask = 0xffffffff;
	long err;

	switch (pkt->payload) {
	case 0:
		return METHOD_NONE;
	case 1:
		mask = 0xff;
		err = bpf_skb_load_bytes(skb, at, &word, 1);
		break;
	case 2:
		mask = 0xffff;
		err = bpf_skb_load_bytes(skb, at, &word, 2);
		break;
	case 3:
		mask = 0xffffff;
		err = bpf_skb_load_bytes(skb, at, &word, 3);
		break;
	default:
		err = bpf_skb_load_bytes(skb, at, &word, 4);
	}
	if (err)
		return METHOD_NONE;
	if (IS("GET ") || IS("POST") || IS("PUT ") || IS("DELE") || IS("PATC") || IS("OPTI"))
		return METHOD_OTHER;
	if (IS("HEAD"))
		return METHOD_HEAD;
	if (IS("CONN"))
		return METHOD_CONNECT;
	/* The rest of IANA's registry, and PURGE, NOTIFY, (UN)SUBSCRIBE and M-SEARCH. PRI, with which HTTP/2 begins, is not
	 * among them. */
	if (IS("TRAC") || IS("QUER") || IS("PROP") || IS("REPO") || IS("SEAR") || IS("MKCO") || IS("MKCA") || IS("MKAC") ||
	    IS("MKRE") || IS("MKWO") || IS("COPY") || IS("MOVE") || IS("LOCK") || IS("UNLO") || IS("ACL ") || IS("BIND") ||
	    IS("UNBI") || IS("REBI") || IS("LINK") || IS("UNLI") || IS("MERG") || IS("UPDA") || IS("LABE") || IS("BASE") ||
	    IS("CHEC") || IS("UNCH") || IS("VERS") || IS("ORDE") || IS("PURG") || IS("NOTI") || IS("SUBS") || IS("UNSU") ||
	    IS("M-SE"))
		return METHOD_OTHER;
	return METHOD_NONE;
}
