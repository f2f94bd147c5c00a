/* Walk of HPACK header blocks (RFC 7541) that looks for a few fields. It can stop and continue at any byte, so a block may be
 * split over frames and packets.
 *
 * The dynamic table is not kept. An index into it counts back from the latest insertion, so the number of insertions gives the
 * insertion that an index refers to. The walk remembers the latest insertions of the fields that it looks for; all others are of
 * other fields. Sizes and evictions do not matter, because no index refers to an evicted entry.
 *
 * A value is never wrong. An index that refers to an insertion that the walk has forgotten or has not seen may be any field: the
 * fields that the block does not name otherwise are then unknown. Those that it names are known, because a well-formed block
 * has each of them at most once.
 *
 * Two errors are not noticed: invalid Huffman codes in a text that is not compared, and an index beyond the end of the table.
 * The receiver closes the connection in both cases. */
#pragma once

#include "types.h"
#include "word.h"

#define WINDOW 256 /* bytes that are read at once: a power of two */
#define WINDOW_ROOM 16 /* bytes after them that may be read, and do not matter */

_Static_assert(IS_POWER_OF_2(WINDOW), "an offset in the window is bounded by a mask");
_Static_assert(WINDOW_ROOM >= HPACK_KEPT, "the beginning of a string can be copied from each offset in the window");

/* What the next byte is. */
enum hpack_phase {
	HPACK_FIELD, /* the first of a representation */
	HPACK_INDEX, /* of its index */
	HPACK_STRING, /* the first of a string */
	HPACK_LENGTH, /* of its length */
	HPACK_BYTES, /* of its text */
};

enum hpack_flag {
	HPACK_INDEXED = 1 << 0, /* name and value are those of an entry */
	HPACK_INSERT = 1 << 1, /* the field is inserted into the table */
	HPACK_RESIZE = 1 << 2, /* no field, but a new size of the table */
	HPACK_NAME = 1 << 3, /* the string is the name */
	HPACK_HUFFMAN = 1 << 4, /* the string is Huffman-coded */
};

#define HPACK_STATIC_ENTRIES 61
#define HPACK_SHIFT_MAX 21 /* integers end below 2^28 + 127: no header block is that long */

/* An entry is a field and its value. */
static __always_inline __u32 hpack_entry(enum hpack_field field, __u32 value)
{
	return field << 12 | value;
}

static __always_inline __u32 hpack_field_of(__u32 entry)
{
	return entry >> 12 & (HPACK_FIELDS - 1);
}

static __always_inline __u32 hpack_value_of(__u32 entry)
{
	return entry & 0xfff;
}

/* hpack_forget restarts the walk after a gap, or on a connection that is followed from a later byte on. What is read next begins
 * a block. */
static __always_inline void hpack_forget(struct hpack *h)
{
	__builtin_memset(h, 0, sizeof(*h));
}

/* hpack_begin begins a header block: the fragments of its HEADERS and CONTINUATION frames follow. */
static __always_inline void hpack_begin(struct hpack *h)
{
	__builtin_memset(h->values, 0, sizeof(h->values));
	h->unresolved = 0;
}

/* hpack_end ends a header block. A block that ends within a field is broken: the next one would be read from there. */
static __always_inline void hpack_end(struct hpack *h)
{
	if (h->phase != HPACK_FIELD)
		h->broken = 1;
}

/* hpack_value returns the value of a field in a block that has ended. */
static __always_inline __u32 hpack_value(const struct hpack *h, enum hpack_field field)
{
	__u32 value = h->values[field & (HPACK_FIELDS - 1)];

	if (h->broken || (value == HPACK_ABSENT && h->unresolved))
		return HPACK_UNKNOWN;
	return value;
}

/* The statuses of the static table from index 8 on, in 9 bits each. */
#define STATIC_STATUSES (200ULL | 204ULL << 9 | 206ULL << 18 | 304ULL << 27 | 400ULL << 36 | 404ULL << 45 | 500ULL << 54)

static __always_inline __u32 hpack_static_entry(__u32 index)
{
	if (index - 8 < 7)
		return hpack_entry(HPACK_STATUS, STATIC_STATUSES >> (index - 8) * 9 & 0x1ff);
	if (index - 2 < 2)
		return hpack_entry(HPACK_METHOD, HPACK_METHOD_OTHER);
	if (index == 31)
		return hpack_entry(HPACK_CONTENT_TYPE, HPACK_CONTENT_OTHER);
	return hpack_entry(HPACK_OTHER, 0);
}

static __always_inline __u32 hpack_dynamic_entry(const struct hpack *h, __u32 index)
{
	__u64 number = h->insertions - (index - HPACK_STATIC_ENTRIES - 1);

	if ((__s64)number <= 0)
		return hpack_entry(HPACK_HIDDEN, 0);
	/* An unused slot has number 0, which is that of no insertion. */
#pragma unroll
	for (int i = 0; i < HPACK_RING; i++) {
		if (h->ring[i] >> 16 == number)
			return h->ring[i] & 0xffff;
	}
	return hpack_entry(number > h->forgotten ? HPACK_OTHER : HPACK_HIDDEN, 0);
}

/* hpack_found applies a field to the results of the block. */
static __always_inline void hpack_found(struct hpack *h, __u32 entry)
{
	__u32 field = hpack_field_of(entry), value = hpack_value_of(entry), earlier;

	if (field == HPACK_OTHER)
		return;
	if (field == HPACK_HIDDEN) {
		h->unresolved = 1;
		return;
	}
	earlier = h->values[field];
	h->values[field] = earlier == HPACK_ABSENT || earlier == value ? value : HPACK_UNKNOWN;
}

/* hpack_insert records an insertion into the table. */
static __always_inline void hpack_insert(struct hpack *h, __u32 entry)
{
	__u64 number = h->insertions + 1, *slot;

	h->insertions = number;
	if (hpack_field_of(entry) == HPACK_OTHER)
		return;
	/* A field with an unknown name takes no place in the ring: it would displace known ones. */
	if (hpack_field_of(entry) == HPACK_HIDDEN) {
		h->forgotten = number;
		return;
	}
	slot = &h->ring[h->next & (HPACK_RING - 1)];
	if (*slot >> 16 > h->forgotten)
		h->forgotten = *slot >> 16;
	*slot = number << 16 | entry;
	h->next++;
}

/* hpack_name returns the field whose name is in kept. The encoding of a text by Huffman codes is unique. */
static __always_inline __u32 hpack_name(const struct hpack *h)
{
	__u64 first = *(const __u64 *)h->kept, second = *(const __u64 *)(h->kept + 8);

	if (h->flags & HPACK_HUFFMAN) {
		switch (h->length) {
		case 5:
			first <<= 24;
			if (first == WORD(0, 0, 0, 0xb8, 0x84, 0x8d, 0x36, 0xa3))
				return HPACK_STATUS;
			if (first == WORD(0, 0, 0, 0xb9, 0x49, 0x53, 0x39, 0xe4))
				return HPACK_METHOD;
			break;
		case 8:
			if (first == WORD(0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f))
				return HPACK_GRPC_STATUS;
			break;
		case 9:
			if (first == WORD(0x21, 0xea, 0x49, 0x6a, 0x4a, 0xc9, 0xf5, 0x59) && (second & 0xff) == 0x7f)
				return HPACK_CONTENT_TYPE;
			break;
		}
		return HPACK_OTHER;
	}
	switch (h->length) {
	case 7:
		first <<= 8;
		if (first == WORD(0, ':', 's', 't', 'a', 't', 'u', 's'))
			return HPACK_STATUS;
		if (first == WORD(0, ':', 'm', 'e', 't', 'h', 'o', 'd'))
			return HPACK_METHOD;
		break;
	case 11:
		if (first == WORD('g', 'r', 'p', 'c', '-', 's', 't', 'a') && second << 40 == WORD(0, 0, 0, 0, 0, 't', 'u', 's'))
			return HPACK_GRPC_STATUS;
		break;
	case 12:
		if (first == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') && second << 32 == WORD(0, 0, 0, 0, 't', 'y', 'p', 'e'))
			return HPACK_CONTENT_TYPE;
		break;
	}
	return HPACK_OTHER;
}

/* hpack_huffman_digits returns the number of up to three decimal digits in a Huffman-coded string of len bytes, the first of
 * which is the highest of text. 0, 1 and 2 have the codes 0 to 2 of 5 bits, 3 to 9 the codes 25 to 31 of 6 bits; ones pad the
 * last byte. */
__noinline __u32 hpack_huffman_digits(__u32 text, __u32 len)
{
	__u32 number = 0, used = 0, code;

	if (len - 1 > 2)
		return HPACK_UNKNOWN;
	/* Ones after the text: no digit is all ones, so the padding ends the loop. */
	text |= 0xffffffff >> 8 * len;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		code = text >> 26;
		if (code < 6) {
			number = number * 10 + code / 2;
			text = text << 5 | 0x1f;
			used += 5;
		} else if (code - 25 < 7) {
			number = number * 10 + code - 22;
			text = text << 6 | 0x3f;
			used += 6;
		}
	}
	if (text != 0xffffffff || used > 8 * len || used + 8 <= 8 * len)
		return HPACK_UNKNOWN;
	return number;
}

/* hpack_digits returns the number that the string is, up to three decimal digits. */
static __always_inline __u32 hpack_digits(const struct hpack *h)
{
	__u32 text = *(const __u32 *)h->kept, len = h->length;

	if (h->flags & HPACK_HUFFMAN)
		return hpack_huffman_digits(__builtin_bswap32(text), len);
	if (len - 1 > 2)
		return HPACK_UNKNOWN;
	/* Shift the digits to the upper bytes, behind leading zeros. */
	text = (text ^ 0x30303030) << (4 - len) * 8;
	if ((text + 0x76767676 | text) & 0x80808080)
		return HPACK_UNKNOWN;
	return (text >> 8 & 0xff) * 100 + (text >> 16 & 0xff) * 10 + (text >> 24);
}

static __always_inline bool hpack_is_grpc(const struct hpack *h)
{
	__u64 first = *(const __u64 *)h->kept, second = *(const __u64 *)(h->kept + 8);

	/* The Huffman codes of "application/grpc" are 88 bits, so what follows does not change these bytes. */
	if (h->flags & HPACK_HUFFMAN)
		return h->length >= 11 && first == WORD(0x1d, 0x75, 0xd0, 0x62, 0x0d, 0x26, 0x3d, 0x4c) &&
		       second << 40 == WORD(0, 0, 0, 0, 0, 0x4d, 0x65, 0x64);
	return h->length >= 16 && first == WORD('a', 'p', 'p', 'l', 'i', 'c', 'a', 't') &&
	       second == WORD('i', 'o', 'n', '/', 'g', 'r', 'p', 'c');
}

static __always_inline bool hpack_is_head(const struct hpack *h)
{
	__u32 text = *(const __u32 *)h->kept;

	if (h->length != 4)
		return false;
	return text == (__u32)(h->flags & HPACK_HUFFMAN ? WORD(0xc7, 0x82, 0x1b, 0xff, 0, 0, 0, 0)
							: WORD('H', 'E', 'A', 'D', 0, 0, 0, 0));
}

/* hpack_parse returns the value of a field whose text is in kept. A field that the walk looks for has a case here, one in
 * hpack_name, and one in hpack_static_entry if it is in the static table. */
static __always_inline __u32 hpack_parse(const struct hpack *h, __u32 field)
{
	__u32 number;

	switch (field) {
	case HPACK_STATUS:
		number = hpack_digits(h);
		return number < STATUS_MIN ? HPACK_UNKNOWN : number;
	case HPACK_GRPC_STATUS:
		number = hpack_digits(h);
		if (number == HPACK_UNKNOWN)
			return HPACK_UNKNOWN;
		/* Clients take codes that gRPC does not define for 2, unknown. */
		return HPACK_GRPC_OK + (number > 16 ? 2 : number);
	case HPACK_CONTENT_TYPE:
		return hpack_is_grpc(h) ? HPACK_CONTENT_GRPC : HPACK_CONTENT_OTHER;
	case HPACK_METHOD:
		return hpack_is_head(h) ? HPACK_METHOD_HEAD : HPACK_METHOD_OTHER;
	}
	return 0;
}

/* hpack_representation begins a representation, and returns the bits of its first byte that begin its index. */
static __always_inline __u32 hpack_representation(struct hpack *h, __u32 b)
{
	if (b & 0x80) {
		h->flags = HPACK_INDEXED;
		return 0x7f;
	}
	if (b & 0x40) {
		h->flags = HPACK_INSERT;
		return 0x3f;
	}
	if (b & 0x20) {
		h->flags = HPACK_RESIZE;
		return 0x1f;
	}
	h->flags = 0;
	return 0x0f;
}

/* hpack_string begins a string, and returns the bits of its first byte that begin its length. */
static __always_inline __u32 hpack_string(struct hpack *h, __u32 b)
{
	h->flags = (h->flags & ~HPACK_HUFFMAN) | (b & 0x80 ? HPACK_HUFFMAN : 0);
	return 0x7f;
}

/* hpack_integer reads a byte of an integer. It returns true when the integer is complete. */
static __always_inline bool hpack_integer(struct hpack *h, __u32 phase, __u32 b)
{
	__u32 prefix;

	if (phase == HPACK_FIELD || phase == HPACK_STRING) {
		prefix = phase == HPACK_FIELD ? hpack_representation(h, b) : hpack_string(h, b);
		h->number = b & prefix;
		h->shift = 0;
		h->phase = phase + 1; /* HPACK_INDEX or HPACK_LENGTH */
		return (b & prefix) != prefix;
	}
	if (h->shift > HPACK_SHIFT_MAX) {
		h->broken = 1;
		return false;
	}
	h->number += (b & 0x7f) << (h->shift & 31);
	h->shift += 7;
	return !(b & 0x80);
}

/* hpack_index_ends continues after the index of a representation. */
static __always_inline void hpack_index_ends(struct hpack *h)
{
	__u32 index = h->number, entry;

	h->phase = HPACK_FIELD;
	if (h->flags & HPACK_RESIZE)
		return;
	entry = index > HPACK_STATIC_ENTRIES ? hpack_dynamic_entry(h, index) : hpack_static_entry(index);
	if (!(h->flags & HPACK_INDEXED)) {
		h->phase = HPACK_STRING;
		h->field = hpack_field_of(entry);
		if (!index)
			h->flags |= HPACK_NAME;
	} else if (index) {
		hpack_found(h, entry);
	} else {
		h->broken = 1;
	}
}

/* hpack_bytes reads the bytes of a string that are in the window, and returns their number. */
static __always_inline __u32 hpack_bytes(struct hpack *h, const __u8 *bytes, __u32 n)
{
	__u32 kept = h->kept_len;

	if (n > h->number)
		n = h->number;
	h->number -= n;
	asm volatile("" : "+r"(kept));
	/* In bounds: kept has room for a copy from each offset below HPACK_KEPT, and so has the window. Of what is copied beyond
	 * the n bytes, later bytes of the string overwrite what matters. The kernel reads and writes words at any address. */
	if (kept < HPACK_KEPT) {
		*(__u64 *)(h->kept + kept) = *(const __u64 *)bytes;
		*(__u64 *)(h->kept + kept + 8) = *(const __u64 *)(bytes + 8);
		kept += n;
		h->kept_len = kept < HPACK_KEPT ? kept : HPACK_KEPT;
	}
	return n;
}

/* hpack_string_ends continues after a name or a value. */
static __always_inline void hpack_string_ends(struct hpack *h)
{
	__u32 entry;

	if (h->flags & HPACK_NAME) {
		h->flags &= ~HPACK_NAME;
		h->field = hpack_name(h);
		h->phase = HPACK_STRING;
		return;
	}
	h->phase = HPACK_FIELD;
	entry = hpack_entry(h->field, hpack_parse(h, h->field));
	hpack_found(h, entry);
	if (h->flags & HPACK_INSERT)
		hpack_insert(h, entry);
}

/* hpack_step reads from bytes[*at] on, up to end: one byte, or all bytes of a string that are there. It moves *at by at least 1
 * if *at < end. bytes has WINDOW + WINDOW_ROOM bytes. */
static __always_inline void hpack_step(struct hpack *h, const __u8 *bytes, __u32 *at, __u32 end)
{
	__u32 from = *at, phase = h->phase;

	if (from >= end)
		return;
	if (h->broken) {
		*at = end;
		return;
	}
	end -= from;
	asm volatile("" : "+r"(from));
	from &= WINDOW - 1;
	if (phase == HPACK_BYTES) {
		*at += hpack_bytes(h, bytes + from, end);
	} else {
		*at += 1;
		if (!hpack_integer(h, phase, bytes[from]))
			return;
		if (phase <= HPACK_INDEX) {
			hpack_index_ends(h);
			return;
		}
		h->phase = HPACK_BYTES;
		h->length = h->number;
		h->kept_len = 0;
	}
	if (!h->number)
		hpack_string_ends(h);
}
