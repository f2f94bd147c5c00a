/* Frames of HTTP/2 (RFC 9113, 4 and 6): a walk over the bytes that one side sends. It resumes at any byte, because TCP may cut a
 * frame anywhere. All its state is in map values, so that the verifier sees equal steps. */
#pragma once

#include "ahead.h"

#define FRAME_MAX 16384 /* of a frame, unless its receiver allows more (RFC 9113, 6.5.2) */
#define FRAME_STEPS (1 << 20) /* each step reads at least a byte of a packet */

/* What a walk has reached. */
enum frame_event {
	AT_NOTHING,
	AT_HEADERS, /* the header of a HEADERS frame was read */
	AT_BLOCK, /* a header block is complete: frames.block_stream, block_type and block_flags describe it */
	AT_DATA, /* a DATA frame is complete */
	AT_RESET, /* a RST_STREAM is complete, head has its error code */
	AT_GOAWAY, /* the last stream and the error code of a GOAWAY were read, head has them */
	AT_PING, /* a PING is complete, head has its bytes */
};

struct walker {
	struct __sk_buff *skb;
	struct stage *stage;
	struct node_state *node;
	struct flow *flow;
	struct http2_connection *connection;
	struct frames *frames;
	__u32 side; /* enum side of the frames */
	__u32 reading; /* 1: no other CPU reads them */
};

/* bytes_left reports whether bytes are left to read. A walk may begin before the packet, with bytes that it skips. */
static __always_inline bool bytes_left(const struct walk *k)
{
	return before(k->at, k->end);
}

static __always_inline bool begins_block(const struct frames *fr)
{
	return fr->type == FRAME_HEADERS || fr->type == FRAME_PUSH_PROMISE;
}

/* belongs_to_stream reports whether a type of frame needs a stream, or must not have one (RFC 9113, 6). Unknown types may have
 * either. */
static __always_inline bool stream_fits(__u8 type, __u32 stream)
{
	switch (type) {
	case FRAME_DATA:
	case FRAME_HEADERS:
	case FRAME_PRIORITY:
	case FRAME_RST_STREAM:
	case FRAME_PUSH_PROMISE:
	case FRAME_CONTINUATION:
		return stream;
	case FRAME_SETTINGS:
	case FRAME_PING:
	case FRAME_GOAWAY:
		return !stream;
	default:
		return true;
	}
}

/* fields_of returns the number of bytes at the beginning of the payload that the walk reads as a whole. */
static __always_inline __u32 fields_of(const struct frames *fr)
{
	__u32 padded = fr->flags & FRAME_PADDED ? 1 : 0;

	switch (fr->type) {
	case FRAME_HEADERS:
		return padded + (fr->flags & FRAME_HAS_PRIORITY ? 5 : 0);
	case FRAME_PUSH_PROMISE:
		return padded + 4;
	case FRAME_RST_STREAM:
		return 4;
	case FRAME_GOAWAY:
	case FRAME_PING:
		return 8;
	default:
		return 0;
	}
}

/* frame_ended begins the next frame. */
static __always_inline void frame_ended(struct frames *fr, struct walk *k)
{
	fr->phase = FRAMES_HEADER;
	fr->have = 0;
	k->frame_at = k->at;
	k->frame_have = 0;
}

/* block_part_ended ends the part of a header block in this frame. The padding follows it. */
static __always_inline enum frame_event block_part_ended(struct frames *fr, struct walk *k)
{
	fr->phase = FRAMES_SKIP;
	if (!fr->left)
		frame_ended(fr, k);
	if (!(fr->flags & FRAME_END_HEADERS))
		return AT_NOTHING;
	hpack_end(&fr->hpack);
	return AT_BLOCK;
}

static __always_inline enum frame_event begin_block_part(struct frames *fr, struct walk *k)
{
	fr->phase = FRAMES_BLOCK;
	return fr->left == fr->padding ? block_part_ended(fr, k) : AT_NOTHING;
}

/* header_read begins the payload of a frame. */
static __always_inline enum frame_event header_read(struct frames *fr, struct walk *k)
{
	__u32 fields;

	if (fr->type == FRAME_CONTINUATION) {
		fr->padding = 0;
		return begin_block_part(fr, k);
	}
	if (begins_block(fr)) {
		fr->block_stream = fr->stream;
		fr->block_type = fr->type;
		fr->block_flags = fr->flags;
		fr->padding = 0;
		hpack_begin(&fr->hpack);
	}
	fields = fields_of(fr);
	if (fields > fr->left) {
		fr->phase = FRAMES_BROKEN;
		return AT_NOTHING;
	}
	fr->have = 0;
	fr->want = fields;
	if (fields) {
		fr->phase = FRAMES_FIELDS;
		return AT_NOTHING;
	}
	if (fr->type == FRAME_HEADERS)
		return begin_block_part(fr, k);
	fr->phase = FRAMES_SKIP;
	if (fr->left)
		return AT_NOTHING;
	frame_ended(fr, k);
	return fr->type == FRAME_DATA ? AT_DATA : AT_NOTHING;
}

/* fields_read goes on after the fields at the beginning of a payload. */
static __always_inline enum frame_event fields_read(struct frames *fr, struct walk *k)
{
	if (begins_block(fr)) {
		fr->padding = fr->flags & FRAME_PADDED ? fr->head[0] : 0;
		if (fr->padding > fr->left) {
			fr->phase = FRAMES_BROKEN;
			return AT_NOTHING;
		}
		return begin_block_part(fr, k);
	}
	fr->phase = FRAMES_SKIP;
	if (!fr->left)
		frame_ended(fr, k);
	switch (fr->type) {
	case FRAME_RST_STREAM:
		return AT_RESET;
	case FRAME_PING:
		return AT_PING;
	default:
		return AT_GOAWAY;
	}
}

/* load_packet loads the next bytes of the packet into the window. It returns false if there are none. */
static __always_inline bool load_packet(struct __sk_buff *skb, struct walk *k)
{
	__u32 n = k->end - k->at - 1;

	k->base = k->at;
	k->fill = 0;
	if (n > WINDOW - 1)
		n = WINDOW - 1;
	/* In bounds: 1 <= n + 1 <= WINDOW. The mask makes it visible to the verifier. */
	asm volatile("" : "+r"(n));
	n &= WINDOW - 1;
	if (bpf_skb_load_bytes(skb, k->at, k->window, n + 1))
		return false;
	k->fill = n + 1;
	return true;
}

/* load_window loads the next bytes of the packet or of a chunk. It returns false if there are none. */
static __always_inline bool load_window(struct walker *w)
{
	struct walk *k = &w->stage->walk;

	if (!k->chunk)
		return load_packet(w->skb, k);
	if (load_chunk(k, w->flow, w->side))
		return true;
	/* It was evicted: its bytes are missing. */
	drop_chunk(k, w->flow, w->side);
	return false;
}

/* next_source moves the walk from the end of the packet or of a chunk to the chunk that follows. */
static __always_inline bool next_source(struct walker *w)
{
	struct walk *k = &w->stage->walk;

	if (!w->flow->ahead[w->side & 1] || !find_chunk(k, w->flow, w->side))
		return false;
	k->frame_at = k->at;
	k->frame_have = w->frames->have;
	k->reach = k->first + k->end;
	/* The packet of the chunk has passed, so its streams are admitted. */
	k->taken = 1;
	return true;
}

/* parse_header reads the nine bytes in head. It returns false if no peer of HTTP/2 sends such a frame here. */
static __always_inline bool parse_header(struct frames *fr)
{
	const __u8 *h = fr->head;

	/* SETTINGS follow the preface (RFC 9113, 3.4). */
	if (fr->type == FRAME_PREFACE && h[3] != FRAME_SETTINGS)
		return false;
	fr->left = (__u32)h[0] << 16 | (__u32)h[1] << 8 | h[2];
	fr->type = h[3];
	fr->flags = h[4];
	fr->stream = read32(h + 5) & 0x7fffffff;
	if (!stream_fits(fr->type, fr->stream))
		return false;
	/* Frames of extensions are short. Text, as of another protocol, would be one of megabytes. */
	if (fr->type > FRAME_CONTINUATION && fr->left > FRAME_MAX)
		return false;
	/* Nothing may come between the parts of a header block. */
	if (fr->block_stream)
		return fr->type == FRAME_CONTINUATION && fr->stream == fr->block_stream;
	return fr->type != FRAME_CONTINUATION;
}

/* collect moves bytes from the window to head until it has want bytes. It returns true when it has them. */
static __always_inline bool collect(struct frames *fr, struct walk *k, __u32 want)
{
	__u32 at = k->at - k->base, have = fr->have;

	if (!have && want == FRAME_HEADER && k->fill - at >= FRAME_HEADER) {
		/* In bounds: WINDOW_ROOM bytes follow the window. */
		__builtin_memcpy(fr->head, k->window + (at & (WINDOW - 1)), FRAME_HEADER);
		k->at += FRAME_HEADER;
		return true;
	}
	fr->head[have & 15] = k->window[at & (WINDOW - 1)];
	fr->have = have + 1;
	k->at++;
	return have + 1 >= want;
}

/* read_fields reads the next byte of the fields at the beginning of a payload. */
static __always_inline enum frame_event read_fields(struct frames *fr, struct walk *k)
{
	bool complete = collect(fr, k, fr->want);

	fr->left--;
	return complete ? fields_read(fr, k) : AT_NOTHING;
}

/* stop_before_frame ends the walk before the frame whose header was just read: the client sends its packet again, and the walk
 * continues with this frame. */
static __always_inline void stop_before_frame(struct frames *fr, struct walk *k)
{
	k->stop = 1;
	k->at = k->frame_at;
	fr->have = k->frame_have;
}

static __always_inline enum frame_event skip_payload(struct frames *fr, struct walk *k)
{
	__u32 n = k->end - k->at;

	if (n > fr->left)
		n = fr->left;
	k->at += n;
	fr->left -= n;
	if (fr->left)
		return AT_NOTHING;
	frame_ended(fr, k);
	return fr->type == FRAME_DATA ? AT_DATA : AT_NOTHING;
}

/* read_block reads a unit of a header block. */
static __always_inline enum frame_event read_block(struct frames *fr, struct walk *k)
{
	__u32 from = k->at - k->base, at = from, n = fr->left - fr->padding, end = k->fill;

	if (end - at > n)
		end = at + n;
	hpack_step(&fr->hpack, k->window, &at, end);
	k->at += at - from;
	fr->left -= at - from;
	return fr->left == fr->padding ? block_part_ended(fr, k) : AT_NOTHING;
}
