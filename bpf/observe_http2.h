/* Observer of HTTP/2 and gRPC: it finds new streams in the client's frames and their results in the backend's frames. Its
 * programs are stages. */
#pragma once

#include "backend.h"
#include "client.h"
#include "frames.h"
#include "stream.h"

#define ERROR_REFUSED_STREAM 7

/* begin_stream decides about a HEADERS frame of the client. It returns false if the packet must not pass. The first new stream
 * of a packet decides for the packet: the others pass with it. */
static __noinline bool begin_stream(struct walker *w)
{
	struct walk *k = &w->stage->walk;
	struct packet *pkt = &w->stage->pkt;
	struct http2_connection *c = w->connection;
	__u32 stream = w->frames->stream, reason;

	/* Trailers, or a stream that a client must not begin (RFC 9113, 5.1.1). */
	if (stream <= c->last_stream || !(stream & 1))
		return true;
	/* Modulo 2^32, as sequence numbers: a header may begin before the packet, or behind it in a chunk. */
	pkt->skip = k->first + k->frame_at - k->frame_have - pkt->seq;
	reason = admit_stream(pkt, w->node, w->flow, c, stream | (k->taken ? ADMIT_ANYWAY : 0));
	if (is_rejection(reason)) {
		pkt->skip = k->frame_at - (pkt->l4 + pkt->tcp_len);
		k->reason = reason;
		return false;
	}
	c->last_stream = stream;
	/* The sweep has ended the others already. */
	if (stream > c->goaway || READ_ONCE(c->closed))
		request_sweep(w->node);
	k->fresh = stream;
	k->taken = 1;
	k->reason = reason;
	return true;
}

/* finish_stream records the outcome of a stream and removes it. */
static __always_inline void finish_stream(struct walker *w, struct stream *s, __u32 stream, __u32 result)
{
	__u64 now = w->stage->walk.now;

	/* The latency of an HTTP response ends with its headers. */
	if (s->flags & STREAM_MAYBE_GRPC && result >= STATUS_MIN && result <= STATUS_MAX)
		now = s->request.responded;
	end_stream(w->connection, s, result, now);
	remove_stream(w->connection, w->flow->http2.connection, stream);
}

/* header_result returns the outcome of a stream whose response is a single header block: an HTTP response without a body, or a
 * gRPC status alone. Only responses with status 200 can be of gRPC. */
static __always_inline __u32 header_result(__u32 status, __u32 content, __u32 grpc)
{
	if (grpc != HPACK_ABSENT && grpc != HPACK_UNKNOWN)
		return GRPC_MIN + grpc - HPACK_GRPC_OK;
	if (status < STATUS_MIN || status > STATUS_MAX)
		return RESULT_UNKNOWN;
	if (status != 200 || content == HPACK_CONTENT_OTHER)
		return status;
	return grpc == HPACK_ABSENT && content == HPACK_ABSENT ? status : RESULT_UNKNOWN;
}

/* trailer_result returns the outcome of a stream whose response ends with trailers. */
static __always_inline __u32 trailer_result(const struct stream *s, __u32 grpc)
{
	if (grpc == HPACK_UNKNOWN)
		return RESULT_UNKNOWN;
	if (grpc != HPACK_ABSENT)
		return GRPC_MIN + grpc - HPACK_GRPC_OK;
	return s->flags & STREAM_MAYBE_GRPC ? s->request.status : RESULT_UNKNOWN;
}

/* on_response_headers handles a header block of the backend: interim or final headers, or trailers. */
static __noinline int on_response_headers(struct walker *w)
{
	struct frames *fr = w->frames;
	struct hpack *h = &fr->hpack;
	struct stream *s = find_stream(w->flow, fr->block_stream);
	__u32 status = hpack_value(h, HPACK_STATUS), content = hpack_value(h, HPACK_CONTENT_TYPE);
	bool end = fr->block_flags & FRAME_END_STREAM;

	if (!s || (!end && status >= 100 && status < 200))
		return 0;
	w->connection->used = 1;
	if (end) {
		__u32 grpc = hpack_value(h, HPACK_GRPC_STATUS);

		finish_stream(w, s, fr->block_stream,
			      s->flags & STREAM_RESPONDED ? trailer_result(s, grpc) : header_result(status, content, grpc));
		return 0;
	}
	s->epoch = READ_ONCE(w->connection->epoch);
	if (s->flags & STREAM_RESPONDED)
		return 0;
	if (status < STATUS_MIN || status > STATUS_MAX)
		status = RESULT_UNKNOWN;
	s->request.status = status;
	s->request.responded = w->stage->walk.now;
	if (content == HPACK_CONTENT_GRPC && (status == 200 || status == RESULT_UNKNOWN)) {
		s->flags |= STREAM_RESPONDED | STREAM_GRPC;
	} else if (content == HPACK_UNKNOWN && status == 200) {
		s->flags |= STREAM_RESPONDED | STREAM_GRPC | STREAM_MAYBE_GRPC;
	} else {
		s->flags |= STREAM_RESPONDED;
		end_stream(w->connection, s, status, w->stage->walk.now);
	}
	return 0;
}

/* on_response_end handles the end of a stream without trailers. */
static __noinline int on_response_end(struct walker *w)
{
	struct frames *fr = w->frames;
	struct stream *s;

	if (!(fr->flags & FRAME_END_STREAM))
		return 0;
	s = find_stream(w->flow, fr->stream);
	if (s)
		finish_stream(w, s, fr->stream, s->flags & STREAM_MAYBE_GRPC ? s->request.status : RESULT_UNKNOWN);
	return 0;
}

static __noinline int on_backend_reset(struct walker *w)
{
	struct frames *fr = w->frames;
	struct stream *s = find_stream(w->flow, fr->stream);

	if (s)
		finish_stream(w, s, fr->stream, read32(fr->head) == ERROR_REFUSED_STREAM ? RESULT_H2_REFUSED : RESULT_H2_RESET);
	return 0;
}

/* on_goaway records up to which stream the backend processes requests. The sweep ends the others. */
static __noinline int on_goaway(struct walker *w)
{
	struct http2_connection *c = w->connection;
	__u32 last = read32(w->frames->head) & 0x7fffffff;

	if (last >= c->goaway)
		return 0;
	c->goaway = last;
	if (last < c->last_stream && READ_ONCE(c->streams))
		request_sweep(w->node);
	return 0;
}

static __noinline int on_client_reset(struct walker *w)
{
	struct frames *fr = w->frames;
	struct stream *s = find_stream(w->flow, fr->stream);

	if (s)
		finish_stream(w, s, fr->stream, client_left_stream(s, w->stage->walk.now));
	return 0;
}

/* on_client_data moves the time from which a response is late to the last byte of the request: of a header block, a body or
 * trailers. */
static __noinline int on_client_data(struct walker *w)
{
	struct walk *k = &w->stage->walk;
	struct stream *s;

	if (w->frames->stream == k->fresh)
		return 0;
	s = find_stream(w->flow, w->frames->stream);
	if (s && request_state_of(READ_ONCE(s->request.state)) == REQUEST_WAIT && !(s->flags & STREAM_RESPONDED))
		s->request.sent = k->now;
	return 0;
}

/* on_client_headers records of which kind requests are, for an answer to one whose kind is not known. */
static __always_inline void on_client_headers(struct walker *w)
{
	__u32 content = hpack_value(&w->frames->hpack, HPACK_CONTENT_TYPE);

	/* Trailers have no type. */
	if (content != HPACK_UNKNOWN && w->frames->block_stream == w->connection->last_stream)
		w->connection->grpc = content == HPACK_CONTENT_GRPC;
}

static __always_inline void on_client_event(struct walker *w, enum frame_event event)
{
	if (event == AT_BLOCK)
		on_client_headers(w);
	if (event == AT_DATA || event == AT_BLOCK)
		on_client_data(w);
	else if (event == AT_RESET)
		on_client_reset(w);
}

static __always_inline void on_backend_event(struct walker *w, enum frame_event event)
{
	switch (event) {
	case AT_BLOCK:
		if (w->frames->block_type == FRAME_HEADERS)
			on_response_headers(w);
		break;
	case AT_DATA:
		on_response_end(w);
		break;
	case AT_RESET:
		on_backend_reset(w);
		break;
	case AT_GOAWAY:
		on_goaway(w);
		break;
	default:
		break;
	}
}

/* read_frame reads the next unit of a frame. */
static __always_inline long read_frame(struct walker *w, const bool client)
{
	struct walk *k = &w->stage->walk;
	struct frames *fr = w->frames;
	enum frame_event event = AT_NOTHING;

	if (!bytes_left(k))
		return !next_source(w);
	if (fr->phase == FRAMES_SKIP) {
		event = skip_payload(fr, k);
	} else if (k->at - k->base >= k->fill && !load_window(w)) {
		return 1;
	} else if (fr->phase == FRAMES_HEADER) {
		if (!collect(fr, k, FRAME_HEADER))
			return 0;
		if (!parse_header(fr)) {
			fr->phase = FRAMES_BROKEN;
			return 1;
		}
		if (client && fr->type == FRAME_HEADERS && !begin_stream(w)) {
			stop_before_frame(fr, k);
			return 1;
		}
		event = header_read(fr, k);
	} else if (fr->phase == FRAMES_FIELDS) {
		event = read_fields(fr, k);
	} else if (fr->phase == FRAMES_BLOCK) {
		event = read_block(fr, k);
	} else {
		return 1;
	}
	if (event == AT_NOTHING)
		return 0;
	if (client)
		on_client_event(w, event);
	else
		on_backend_event(w, event);
	if (event == AT_BLOCK) {
		fr->block_stream = 0;
		if (fr->hpack.broken)
			fr->phase = FRAMES_BROKEN;
	}
	return 0;
}

static long read_client_frame(__u32 step, struct walker *w)
{
	return read_frame(w, true);
}

static long read_backend_frame(__u32 step, struct walker *w)
{
	return read_frame(w, false);
}

/* find_boundary finds the boundary of a frame after a gap. The packet must begin with the header block of a stream: a new one
 * of the client, or a known one of the backend. */
static __always_inline bool find_boundary(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, struct flow *f,
					  struct http2_connection *c, struct frames *fr, const bool client)
{
	__u8 id[4];
	__u32 stream;

	if (!frames_begin(skb, pkt) || bpf_skb_load_bytes(skb, pkt->l4 + pkt->tcp_len + 5, id, sizeof(id)))
		return false;
	stream = read32(id);
	if (client ? stream <= c->last_stream : !find_stream(f, stream))
		return false;
	fr->next = pkt->seq;
	fr->phase = FRAMES_HEADER;
	fr->have = 0;
	fr->block_stream = 0;
	hpack_forget(&fr->hpack);
	/* Streams that began after the gap may have ended before this boundary. */
	frames_missed(n, c);
	return true;
}

/* begin_walk prepares to read the packet from frames.next on. It returns false if nothing of the packet is to be read. */
static __always_inline bool begin_walk(struct walker *w, const bool client)
{
	struct http2_connection *c = w->connection;
	const struct packet *pkt = &w->stage->pkt;
	struct walk *k = &w->stage->walk;
	struct frames *fr = w->frames;
	struct flow *f = w->flow;
	__u32 gap = pkt->seq - fr->next, left = fr->phase == FRAMES_SKIP ? fr->left : 0;

	if (c->client.phase == FRAMES_BROKEN || c->backend.phase == FRAMES_BROKEN)
		return false;
	/* A gap within bytes that need not be read is none. */
	if (fr->phase != FRAMES_LOST && before(fr->next, pkt->seq) && gap > left) {
		/* What the receiver has not acknowledged will be sent again. */
		if (!before(fr->next, client ? f->acked : f->client_ack)) {
			if (client || acknowledges_client(f, pkt))
				keep_ahead(w->skb, pkt, f, w->side, fr->next);
			return false;
		}
		fr->phase = FRAMES_LOST;
		frames_missed(w->node, c);
	}
	if (fr->phase == FRAMES_LOST && !find_boundary(w->skb, pkt, w->node, f, c, fr, client))
		return false;
	if (!before(fr->next, pkt->seq + pkt->payload))
		return false;
	k->now = bpf_ktime_get_ns();
	k->first = pkt->seq - (pkt->l4 + pkt->tcp_len);
	k->at = fr->next - k->first;
	k->end = pkt->l4 + pkt->tcp_len + pkt->payload;
	k->base = k->at;
	k->fill = 0;
	k->frame_at = k->at;
	k->frame_have = fr->have;
	k->fresh = 0;
	k->taken = 0;
	k->stop = 0;
	k->reason = REASON_FLOW;
	k->chunk = 0;
	return true;
}

/* end_walk records how far the walk came. A walk that did not come to the end of the packet has met frames that are not
 * readable. */
static __always_inline void end_walk(struct walker *w)
{
	struct walk *k = &w->stage->walk;
	struct frames *fr = w->frames;
	struct circuit *c;

	fr->next = k->first + k->at;
	if (k->stop || (!bytes_left(k) && fr->phase != FRAMES_BROKEN))
		return;
	fr->phase = FRAMES_BROKEN;
	frames_missed(w->node, w->connection);
	c = circuit_of(w->flow->request.circuit);
	if (c)
		__sync_fetch_and_add(&c->openings[OPENING_MALFORMED_HTTP2], 1);
}

#define READING_TRIES 8192 /* longer than another CPU reads a packet of common size */

/* try_reading begins to read unless another CPU reads the same side. */
static long try_reading(__u32 step, struct walker *w)
{
	w->reading = !__sync_val_compare_and_swap(&w->frames->busy, 0, 1);
	return w->reading;
}

/* begin_reading waits for another CPU that reads the same side. That CPU is not preempted by this one, see stage_packet. If it
 * takes too long the packet is not read, and the walk has missed frames. */
static __always_inline bool begin_reading(struct walker *w)
{
	if (!try_reading(0, w))
		bpf_loop(READING_TRIES, try_reading, w, 0);
	return w->reading;
}

static __always_inline void end_reading(struct walker *w)
{
	*(volatile __u32 *)&w->frames->busy = 0;
}

/* end_withholding is called when the stream that was withheld is admitted. */
static __always_inline void end_withholding(struct flow *f, struct http2_connection *c)
{
	if (!(READ_ONCE(f->flags) & FLOW_WITHHELD))
		return;
	c->withheld = 0;
	__sync_fetch_and_and(&f->flags, ~FLOW_WITHHELD);
}

/* read_client_frames decides about the frames in a packet of the client. */
static __always_inline __u64 read_client_frames(struct __sk_buff *skb, struct stage *s, struct node_state *n, struct flow *f)
{
	struct walker w = { .skb = skb, .stage = s, .node = n, .flow = f, .side = SIDE_CLIENT };
	__u32 reason = REASON_FLOW;

	w.connection = http2_connection_of(f);
	if (!w.connection)
		return pass(REASON_UNTRACKED);
	w.frames = &w.connection->client;
	if (!begin_reading(&w))
		return READ_ONCE(f->flags) & FLOW_WITHHELD ? decision(ACTION_DROP, REASON_WITHHELD) : pass(REASON_FLOW);
	if (begin_walk(&w, true)) {
		bpf_loop(FRAME_STEPS, read_client_frame, &w, 0);
		end_walk(&w);
		reason = s->walk.reason;
		if (s->walk.taken)
			end_withholding(f, w.connection);
	}
	end_reading(&w);
	return is_rejection(reason) ? decision(TODO_HTTP2_REJECT, reason) : pass(reason);
}

/* http2_on_client decides about data of a client. They may be ahead of a gap. */
static __always_inline __u64 http2_on_client(struct __sk_buff *skb, struct stage *s, struct node_state *n)
{
	struct flow *f = find_flow(&s->pkt.key);
	bool ordered;
	__u64 d;

	if (!f)
		return pass(REASON_UNTRACKED);
	ordered = !before(f->client_end, s->pkt.seq) || !before(f->acked, s->pkt.seq);
	s->walk.reach = s->pkt.seq + s->pkt.payload;
	d = read_client_frames(skb, s, n, f);
	/* An answer fits only the next bytes of the client. TCP sends others again. */
	if (d >> 32 == TODO_HTTP2_REJECT && !ordered)
		return decision(ACTION_DROP, REASON_WITHHELD);
	if (d >> 32 != ACTION_PASS)
		return d;
	if (ordered && before(f->client_end, s->walk.reach))
		f->client_end = s->walk.reach;
	after_client_data(&s->pkt, f);
	return d;
}

static __always_inline __u64 http2_on_backend(struct __sk_buff *skb, struct stage *s, struct node_state *n)
{
	struct flow *f = find_flow(&s->pkt.key);
	struct walker w = { .skb = skb, .stage = s, .node = n, .flow = f, .side = SIDE_BACKEND };

	if (!f)
		return pass(REASON_UNTRACKED);
	w.connection = http2_connection_of(f);
	if (!w.connection)
		return pass(REASON_UNTRACKED);
	w.frames = &w.connection->backend;
	if (!w.connection->greeted)
		w.connection->greeted = 1;
	if (begin_reading(&w)) {
		if (begin_walk(&w, false)) {
			bpf_loop(FRAME_STEPS, read_backend_frame, &w, 0);
			end_walk(&w);
		}
		end_reading(&w);
	}
	after_backend_data(&s->pkt, f, s->argument);
	return pass(REASON_FLOW);
}
