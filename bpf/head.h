/* Head of an HTTP/1.x message, and from it the end of the message (RFC 9112, 6). Only a head that lies in one packet is
 * read. */
#pragma once

#include "maps.h"
#include "parse.h"
#include "word.h"

enum field {
	FIELD_LENGTH = 1 << 0,
	FIELD_CHUNKED = 1 << 1,
	FIELD_BAD = 1 << 2, /* contradictory or unsupported */
};

/* State of reading a head. */
struct head {
	const __u8 *bytes; /* HEAD_MAX + HEAD_ROOM bytes */
	__u32 len; /* bytes that come from the packet */
	__u32 at; /* offset of the next byte to read */
	__u32 line; /* offset of the current line */
	__u32 body; /* out: length of the head, 0 = end not found */
	__u32 fields; /* enum field; with counters the verifier could not prune equal steps */
	__u32 value; /* offset of the value of Content-Length, parsed after the loop: nested loops are expensive to verify */
	__u32 value_end;
	__u32 upgrade; /* out: the line is "Upgrade: h2c" */
};

#define ONES 0x0101010101010101ULL
#define HIGH_BITS 0x8080808080808080ULL
#define SPACES 0x2020202020202020ULL
#define NEWLINES 0x0a0a0a0a0a0a0a0aULL
#define ZEROS 0x3030303030303030ULL /* '0' */
#define BELOW_TEN 0x7676767676767676ULL /* sets the high bit of a byte above 9 when added to it */
#define HEAD_STEP 32
#define HEAD_STEPS (HEAD_MAX / HEAD_STEP + 256) /* a step reads HEAD_STEP bytes or ends a line */

/* word reads 8 bytes. In bounds: the mask keeps at below HEAD_MAX, and HEAD_ROOM bytes follow. */
static __always_inline __u64 word(const __u8 *bytes, __u32 at)
{
	__u64 w;

	at &= HEAD_MAX - 1;
	__builtin_memcpy(&w, bytes + at, sizeof(w));
	return w;
}

/* State of parsing a number between blanks. */
struct number {
	const __u8 *bytes;
	__u64 value;
	__u32 at;
	__u32 end;
	__u32 digits; /* 1: at least one digit was read */
	__u32 done; /* 1: a blank followed the digits */
};

static long number_step(__u32 step, struct number *n)
{
	__u8 b = n->bytes[n->at & (HEAD_MAX - 1)];

	if (n->at >= n->end)
		return 1;
	if (b >= '0' && b <= '9' && !n->done) {
		n->value = n->value * 10 + (b - '0');
		n->digits = 1;
	} else if (b == ' ' || b == '\t' || b == '\r') {
		n->done = n->digits;
	} else {
		return 1;
	}
	n->at++;
	return 0;
}

/* is_h2c reports whether the value of a field is h2c alone. */
static __always_inline bool is_h2c(const __u8 *bytes, __u32 at)
{
	__u64 w;

	if (bytes[at & (HEAD_MAX - 1)] == ' ')
		at++;
	w = word(bytes, at) | SPACES;
	return w << 40 == WORD('h', '2', 'c', 0, 0, 0, 0, 0) << 40 && (w >> 24 & 0xff) == ('\r' | ' ');
}

/* header_line reads the two fields that determine the length of the body, and an upgrade to HTTP/2. The line extends from line to
 * its line feed at end. */
static __always_inline void header_line(struct head *h, __u32 line, __u32 end)
{
	__u64 w = word(h->bytes, line) | SPACES;
	__u32 at;

	if (w == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
		w = word(h->bytes, line + 8) | SPACES;
		if (w << 8 != WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0) << 8)
			return;
		if (h->fields & FIELD_LENGTH)
			h->fields |= FIELD_BAD;
		h->fields |= FIELD_LENGTH;
		h->value = line + 15;
		h->value_end = end;
	} else if (w == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')) {
		w = word(h->bytes, line + 8) | SPACES;
		if (w != WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'))
			return;
		/* The body ends with the last chunk only if chunked is the last coding. */
		at = end - 1;
		if (h->bytes[at & (HEAD_MAX - 1)] != '\r')
			at++;
		w = word(h->bytes, at - 8) | SPACES;
		if (w >> 8 == WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0))
			h->fields |= FIELD_CHUNKED;
		else
			h->fields |= FIELD_BAD;
	} else if (w == WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', ':')) {
		h->upgrade = is_h2c(h->bytes, line + 8);
	}
}

/* newlines sets the high bit of the lowest byte of w that is a line feed, and possibly bits above it. It returns 0 if there is
 * none. */
static __always_inline __u64 newlines(__u64 w)
{
	w ^= NEWLINES;
	return (w - ONES) & ~w & HIGH_BITS;
}

/* line_feed returns the distance from at to the next line feed, HEAD_STEP if it is not within HEAD_STEP bytes. */
static __always_inline __u32 line_feed(const __u8 *bytes, __u32 at)
{
	__u64 found;

	found = newlines(word(bytes, at));
	if (found)
		return __builtin_ctzll(found) / 8;
	found = newlines(word(bytes, at + 8));
	if (found)
		return 8 + __builtin_ctzll(found) / 8;
	found = newlines(word(bytes, at + 16));
	if (found)
		return 16 + __builtin_ctzll(found) / 8;
	found = newlines(word(bytes, at + 24));
	if (found)
		return 24 + __builtin_ctzll(found) / 8;
	return HEAD_STEP;
}

/* head_step reads up to HEAD_STEP bytes of a line, and parses the line at its end. */
static long head_step(__u32 step, struct head *h)
{
	__u32 at = h->at, line = h->line, end;

	if (at >= h->len)
		return 1;
	end = line_feed(h->bytes, at);
	if (end == HEAD_STEP) {
		h->at = at + HEAD_STEP;
		return 0;
	}
	end += at;
	if (end >= h->len)
		return 1;
	h->at = end + 1;
	h->line = end + 1;
	if (end == line || (end == line + 1 && h->bytes[line & (HEAD_MAX - 1)] == '\r')) {
		h->body = end + 1;
		return 1;
	}
	header_line(h, line, end);
	return 0;
}

/* number parses a decimal number between blanks. It returns false for other text and for lengths from 2 GiB, whose end has no
 * unique sequence number. */
static __always_inline bool number(const __u8 *bytes, __u32 at, __u32 end, __u64 *value)
{
	struct number n = { .bytes = bytes };
	__u32 digits;
	__u64 w;

	/* Fast path for the common form: one blank, at most eight digits, CRLF. */
	if (bytes[at & (HEAD_MAX - 1)] == ' ')
		at++;
	if (bytes[(end - 1) & (HEAD_MAX - 1)] == '\r')
		end--;
	digits = end - at;
	if (digits - 1 < 8) {
		/* Shift the digits to the upper bytes, behind leading zeros, then combine neighbours in pairs. */
		digits = 8 - digits;
		w = (word(bytes, at) ^ ZEROS) << (digits & 7) * 8;
		if (!((w + BELOW_TEN | w) & HIGH_BITS)) {
			w = (w * 10 + (w >> 8)) & 0x00ff00ff00ff00ffULL;
			w = (w * 100 + (w >> 16)) & 0x0000ffff0000ffffULL;
			*value = (w * 10000 + (w >> 32)) & 0xffffffffULL;
			return true;
		}
	}
	n.at = at;
	n.end = end;
	bpf_loop(20, number_step, &n, 0);
	*value = n.value;
	return n.digits && n.at >= end && n.value < 1ULL << 31;
}

/* Where a message ends. */
struct message {
	__u32 framing; /* enum framing */
	__u32 end; /* FRAMING_LENGTH: sequence number after its last byte */
	__u32 upgrade; /* 1: to HTTP/2 in clear text (RFC 7540, 3.2) */
};

/* Whether a message has a body. */
enum body {
	BODY_NEVER, /* the response to a HEAD, 204, 304 */
	BODY_NAMED, /* a request: has a body if a field says so */
	BODY_LIKELY, /* a response: without a length the body ends with the connection */
};

/* read_head determines the end of a message. The payload from offset skip on is the head, from its beginning or from within its
 * first line. */
__noinline int read_head(struct __sk_buff *skb, const struct packet *pkt, __u32 skip, __u32 body, struct message *out)
{
	struct head h = {};
	__u32 zero = 0, n;
	__u64 length = 0;
	struct head_bytes *b = bpf_map_lookup_elem(&heads, &zero);

	if (!pkt || !out)
		return 0;
	out->framing = FRAMING_UNKNOWN;
	out->end = 0;
	out->upgrade = 0;
	if (!b || skip >= pkt->payload)
		return 0;
	n = pkt->payload - skip - 1;
	if (n > HEAD_MAX - 1)
		n = HEAD_MAX - 1;
	/* In bounds: 1 <= n + 1 <= HEAD_MAX. The mask makes it visible to the verifier. */
	asm volatile("" : "+r"(n));
	n &= HEAD_MAX - 1;
	if (bpf_skb_load_bytes(skb, pkt->l4 + pkt->tcp_len + skip, b->bytes, n + 1))
		return 0;
	h.bytes = b->bytes;
	h.len = n + 1;
	bpf_loop(HEAD_STEPS, head_step, &h, 0);
	if (!h.body)
		return 0;
	out->end = pkt->seq + skip + h.body;
	out->upgrade = h.upgrade;
	if (h.fields == FIELD_LENGTH && !number(b->bytes, h.value, h.value_end, &length))
		h.fields |= FIELD_BAD;
	if (body == BODY_NEVER) {
		out->framing = FRAMING_LENGTH;
	} else if (h.fields == FIELD_CHUNKED) {
		out->framing = FRAMING_CHUNKED;
	} else if (h.fields == FIELD_LENGTH) {
		out->framing = FRAMING_LENGTH;
		out->end += length;
	} else if (body == BODY_NAMED && !h.fields) {
		out->framing = FRAMING_LENGTH;
	}
	return 0;
}
