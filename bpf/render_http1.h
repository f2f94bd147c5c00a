/* HTTP/1.x answers to rejected clients. The agent renders one per reason; the program fills in the seconds of Retry-After. */
#pragma once

#include "headers.h"
#include "http1.h"
#include "proxy.h"
#include "rejection.h"

#define MSS_ANY 0xffff

/* http1_answer returns the index of the answer for a reason, or ANSWER_NONE if it does not fit one segment. An MSS includes the
 * TCP options (RFC 6691). */
static __always_inline __u32 http1_answer(const struct policy *p, __u32 reason, __u32 mss, bool has_ts)
{
	__u32 i = rejection_index(reason), index = i < REJECTIONS ? p->answers[i] : ANSWER_NONE;
	struct answer *a = answer_at(index);

	return a && a->len + (has_ts ? 12 : 0) <= mss ? index : ANSWER_NONE;
}

/* http1_begins reports whether a connection begins with a request, possibly after a PROXY header. It sets pkt->skip and
 * pkt->is_head. */
static __always_inline bool http1_begins(struct __sk_buff *skb, struct packet *pkt)
{
	enum method m = method(skb, pkt);
	__u32 skip;

	if (m == METHOD_NONE) {
		skip = proxy_header(skb, pkt);
		if (skip && skip < pkt->payload) {
			pkt->skip = skip;
			m = method(skb, pkt);
		}
	}
	pkt->is_head = m == METHOD_HEAD;
	return m != METHOD_NONE;
}

/* write_retry writes the seconds of Retry-After, right-aligned behind blanks or zeros, and adds the change of the field's sum to
 * sum. */
static __always_inline long write_retry(struct __sk_buff *skb, __u32 payload, __u64 seconds, const struct answer *a, __u64 *sum)
{
	__u64 at = a->retry_at;
	__u64 field = (a->retry_pad ? a->retry_pad & 0xff : ' ') * 0x0101010101010101ULL, old;

	_Static_assert(RETRY_DIGITS == sizeof(field), "the field is written as one word");
	/* 8 digits are more than three years. The highest byte is the last character; blank | 0x10 is '0', and so is
	 * '0' | 0x10. */
	if (seconds > 99999999)
		seconds = 99999999;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (!i || seconds)
			field |= (0x10 | seconds % 10) << (56 - 8 * i);
		seconds /= 10;
	}
	/* In bounds: at <= ANSWER_MAX - RETRY_DIGITS, compared right before the use, where the verifier tracks it. */
	asm volatile("" : "+r"(at));
	if (!at || at > ANSWER_MAX - RETRY_DIGITS)
		return 0;
	__builtin_memcpy(&old, a->bytes + at, sizeof(old));
	/* In one's complement the inverse is the negative. */
	*sum += (__u16)~fold(sum_word(old)) + fold(sum_word(field));
	return bpf_skb_store_bytes(skb, payload + at, &field, sizeof(field), 0);
}

/* http1_write writes an answer of len bytes at an offset and returns 0 on success. It changes sum from that of the rendered
 * answer to that of the written bytes. */
static __always_inline long http1_write(struct __sk_buff *skb, __u32 at, const struct answer *a, __u32 len, __u64 retry, __u64 *sum)
{
	/* In bounds: 1 <= len <= ANSWER_MAX. The verifier before 6.8 derives no lower bound from a comparison with 0, so len -
	 * 1 is compared. */
	__u32 n = len - 1;
	long err;

	asm volatile("" : "+r"(n));
	if (n > ANSWER_MAX - 1)
		return -1;
	err = bpf_skb_store_bytes(skb, at, a->bytes, n + 1, 0);
	return err | write_retry(skb, at, retry, a, sum);
}
