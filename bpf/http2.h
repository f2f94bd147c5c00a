/* HTTP/2 connections: lookup, creation and end. Their streams end later, in the sweep. */
#pragma once

#include "hpack.h"
#include "parse.h"
#include "request.h"

#define NO_GOAWAY 0xffffffff
#define PREFACE_LEN 24 /* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" (RFC 9113, 3.4) */
#define FRAME_PREFACE 0xff /* type of the preface, which the walk skips like a frame */

enum frame_type {
	FRAME_DATA,
	FRAME_HEADERS,
	FRAME_PRIORITY,
	FRAME_RST_STREAM,
	FRAME_SETTINGS,
	FRAME_PUSH_PROMISE,
	FRAME_PING,
	FRAME_GOAWAY,
	FRAME_WINDOW_UPDATE,
	FRAME_CONTINUATION,
};

enum frame_flag {
	FRAME_ACK = 0x1, /* SETTINGS, PING */
	FRAME_END_STREAM = 0x1, /* DATA, HEADERS */
	FRAME_END_HEADERS = 0x4, /* HEADERS, PUSH_PROMISE, CONTINUATION */
	FRAME_PADDED = 0x8, /* DATA, HEADERS, PUSH_PROMISE */
	FRAME_HAS_PRIORITY = 0x20, /* HEADERS */
};

static __always_inline __u32 read32(const __u8 *b)
{
	return (__u32)b[0] << 24 | (__u32)b[1] << 16 | (__u32)b[2] << 8 | b[3];
}

/* frames_begin reports whether the payload looks like the beginning of a HEADERS frame with a whole header block, which is how
 * requests and responses begin. */
static __always_inline bool frames_begin(struct __sk_buff *skb, const struct packet *pkt)
{
	__u8 h[FRAME_HEADER] = {};
	__u32 len, stream;

	if (pkt->payload <= FRAME_HEADER || bpf_skb_load_bytes(skb, pkt->l4 + pkt->tcp_len, h, sizeof(h)))
		return false;
	len = (__u32)h[0] << 16 | (__u32)h[1] << 8 | h[2];
	stream = read32(h + 5);
	return h[3] == FRAME_HEADERS && h[4] & FRAME_END_HEADERS && !(h[4] & ~0x2d) && len &&
	       len <= pkt->payload - FRAME_HEADER && stream & 1 && stream < 1U << 31;
}

static __always_inline struct http2_connection *http2_connection_of(const struct flow *f)
{
	__u64 key = f->http2.connection;

	return bpf_map_lookup_elem(&http2_connections, &key);
}

/* request_sweep asks the agent to sweep now instead of at its next turn. One event is enough until the sweep begins. */
static __always_inline void request_sweep(struct node_state *n)
{
	struct event *e;

	if (READ_ONCE(n->sweep_requested) || __sync_val_compare_and_swap(&n->sweep_requested, 0, 1))
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		n->sweep_requested = 0; /* the next periodic sweep ends the streams */
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = EVENT_SWEEP;
	event_submit(e);
}

/* frames_missed records that frames of a side were not read. What they said of the streams in flight is not known, so the sweep
 * ends these streams as unknown. */
static __always_inline void frames_missed(struct node_state *n, struct http2_connection *c)
{
	__sync_fetch_and_add(&c->epoch, 1);
	if (READ_ONCE(c->streams))
		request_sweep(n);
}

/* frames_unread reports whether a side has acknowledged data of the other one that were not read. An acknowledgement of a FIN is
 * one more. */
static __always_inline bool frames_unread(const struct flow *f, const struct http2_connection *c)
{
	__u32 client_fin = f->flags & FLOW_CLIENT_FIN ? 1 : 0, backend_fin = f->flags & FLOW_BACKEND_FIN ? 1 : 0;

	return before(c->backend.next, f->client_ack - backend_fin) || before(c->client.next, f->acked - client_fin);
}

static __always_inline enum closer closer_of(__u32 result)
{
	switch (result) {
	case RESULT_ABORTED:
	case RESULT_ABANDONED:
		return CLOSER_CLIENT;
	case RESULT_RESET:
	case RESULT_RACED:
		return CLOSER_BACKEND;
	default:
		return CLOSER_UNKNOWN;
	}
}

/* close_http2 records the end of a connection. The first call decides. result: the outcome of a request that was pending then,
 * see closer_of. */
__noinline int close_http2(const struct flow *f, __u32 result, __u64 now)
{
	struct node_state *n = the_node();
	struct http2_connection *c;
	enum closer closer = closer_of(result);

	if (!f || !n)
		return 0;
	c = http2_connection_of(f);
	if (!c)
		return 0;
	/* A client that has sent a FIN has left first. */
	if (closer == CLOSER_BACKEND && c->client_left)
		closer = CLOSER_CLIENT;
	if (__sync_val_compare_and_swap(&c->closer, CLOSER_NONE, closer) != CLOSER_NONE)
		return 0;
	c->acked = f->acked;
	if (frames_unread(f, c))
		frames_missed(n, c);
	*(volatile __u64 *)&c->closed = closer == CLOSER_CLIENT && c->client_left ? c->client_left : now;
	if (READ_ONCE(c->streams))
		request_sweep(n);
	return 0;
}

/* new_connection_number numbers a connection, unless it has a number: the client's data may have come ahead of the preface. */
static __always_inline __u64 new_connection_number(struct node_state *n, struct flow *f)
{
	if (!f->http2.connection)
		f->http2.connection = __sync_fetch_and_add(&n->http2_keys, 1) + 1;
	return f->http2.connection;
}

static __always_inline void begin_frames(struct frames *fr, __u32 next)
{
	fr->next = next;
	fr->phase = FRAMES_HEADER;
}

/* begin_backend_frames begins where the backend's frames stand that it sent before the client's preface. */
static __always_inline void begin_backend_frames(struct frames *fr, const struct flow *f)
{
	const struct http1_state *h = &f->http1;

	begin_frames(fr, h->response_end);
	if (h->greeting == GREETING_OTHER) {
		fr->phase = FRAMES_LOST;
	} else if (before(f->backend_end, h->response_end)) {
		/* Within a frame without a header block. */
		fr->next = f->backend_end;
		fr->phase = FRAMES_SKIP;
		fr->left = h->response_end - f->backend_end;
	} else {
		__builtin_memcpy(fr->head, h->head, FRAME_HEADER);
		fr->have = h->head_len;
		fr->next += h->head_len;
	}
}

enum begin {
	BEGIN_PREFACE, /* seq: of the client's preface */
	BEGIN_JOINED, /* seq: of a frame of the client in the middle of the connection */
	BEGIN_UPGRADED, /* seq: of the client's preface, after a request whose response is on stream 1 */
};

/* begin_http2 begins to observe the frames of a connection. The client sends the first of them, or its preface, from seq on. It
 * returns false if there is no room. The backend may have sent frames before the preface. */
static __always_inline bool begin_http2(struct node_state *n, struct flow *f, __u32 seq, const enum begin begin)
{
	__u32 zero = 0;
	struct http2_connection *c = bpf_map_lookup_elem(&new_http2, &zero);
	__u64 key;

	if (!c)
		return false;
	__builtin_memset(c, 0, sizeof(*c));
	begin_frames(&c->client, seq);
	c->goaway = NO_GOAWAY;
	c->greeted = f->flags & FLOW_JOINED || f->backend_end != f->backend_next;
	if (begin != BEGIN_JOINED) {
		c->client.phase = FRAMES_SKIP;
		c->client.type = FRAME_PREFACE;
		c->client.left = PREFACE_LEN;
	}
	if (begin == BEGIN_PREFACE) {
		begin_backend_frames(&c->backend, f);
	} else if (begin == BEGIN_JOINED) {
		c->backend.phase = FRAMES_LOST;
	} else {
		begin_frames(&c->backend, f->backend_next);
		if (f->http1.request_framing != FRAMING_LENGTH)
			c->client.phase = FRAMES_LOST;
		c->greeted = 1;
		c->used = 1;
		c->last_stream = 1;
		c->streams = 1;
		c->permits = f->request.flags & REQUEST_PERMIT ? 1 : 0;
		c->permit_generation = f->request.generation;
	}
	key = new_connection_number(n, f);
	if (bpf_map_update_elem(&http2_connections, &key, c, BPF_NOEXIST))
		return false;
	__sync_fetch_and_add(&n->http2_count, 1);
	/* Readers of the protocol on other CPUs find the key. */
	asm volatile("" ::: "memory");
	*(volatile __u8 *)&f->protocol = PROTOCOL_HTTP2;
	return true;
}

/* close_after_backend_fin ends the connection if all data before a FIN of the backend were seen. */
static __always_inline void close_after_backend_fin(const struct flow *f)
{
	if (f->flags & FLOW_BACKEND_FIN)
		close_http2(f, RESULT_RESET, bpf_ktime_get_ns());
}

/* backend_read_to and client_read_to report whether all data of a side before a sequence number were read. */
static __always_inline bool backend_read_to(const struct flow *f, __u32 seq)
{
	struct http2_connection *c = http2_connection_of(f);

	return c && c->backend.next == seq;
}

static __always_inline bool client_read_to(const struct flow *f, __u32 seq)
{
	struct http2_connection *c = http2_connection_of(f);

	return c && c->client.next == seq;
}

/* record_client_left records the time at which the client closed its direction. The sweep ends the streams that it has waited
 * for too long. */
static __always_inline void record_client_left(const struct flow *f, __u64 now)
{
	struct http2_connection *c = http2_connection_of(f);
	struct node_state *n = the_node();

	if (!c || !n || c->client_left)
		return;
	c->client_left = now;
	if (READ_ONCE(c->streams))
		request_sweep(n);
}
