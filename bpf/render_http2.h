/* HTTP/2 frames to rejected clients: answers, and what keeps their connection open. A list of replies describes the bytes that a
 * client gets, so that they can be sent again. */
#pragma once

#include "http2.h"
#include "rewrite.h"
#include "stage.h"

#define ERROR_NONE 0
#define ERROR_PROTOCOL 1
#define GREETING_LEN 28
#define GREETING_SETTINGS_LEN 15
#define GOAWAY_LEN 17
#define PING_LEN 17
#define WINDOW_LEN 13
#define SETTINGS_ACK_LEN 9
#define SMALL_REPLY_MAX 32 /* a power of two */
#define FLOW_WINDOW_MAX 0x7fffffff /* largest window of a stream or a connection (RFC 9113, 6.9.1) */
#define FLOW_WINDOW_DEFAULT 0xffff

static __always_inline struct http2_reply *reply_at(struct kept_connection *c, __u32 number)
{
	return &c->replies[number & (REPLIES - 1)];
}

static __always_inline bool ends_connection(const struct http2_reply *r)
{
	return r->kind >= REPLY_GOAWAY;
}

/* add_reply adds a reply to the list. The caller makes sure that there is a place. */
static __always_inline struct http2_reply *add_reply(struct kept_connection *c, enum reply_kind kind, __u32 len)
{
	struct http2_reply *r = reply_at(c, c->head);

	r->kind = kind;
	r->len = len;
	r->answer = ANSWER_NONE;
	r->sum = 0;
	r->data = c->client.next;
	r->values[0] = 0;
	r->values[1] = 0;
	c->head++;
	c->next += len;
	if (ends_connection(r)) {
		c->next++;
		c->closed = 1;
	}
	return r;
}

static __always_inline void add_goaway(struct kept_connection *c, __u32 error)
{
	struct http2_reply *r = add_reply(c, REPLY_GOAWAY, GOAWAY_LEN);

	r->values[0] = c->last_stream;
	r->values[1] = error;
}

/* http2_answer returns the index of the answer for a reason. A gRPC client understands an HTTP answer, but not the other way
 * round. */
static __always_inline __u32 http2_answer(const struct policy *p, __u32 reason, bool grpc)
{
	__u32 i = rejection_index(reason), index = ANSWER_NONE;

	/* The verifier of older kernels must see the bound on the value that is used. */
	asm volatile("" : "+r"(i));
	if (i >= REJECTIONS)
		return ANSWER_NONE;
	if (grpc)
		index = p->grpc_answers[i];
	return index == ANSWER_NONE ? p->http2_answers[i] : index;
}

/* add_answer adds the answer for a stream. It returns false if there is none, or if it does not fit a segment. */
static __always_inline bool add_answer(struct kept_connection *c, __u32 index, __u32 stream, bool head, __u64 retry)
{
	struct answer *a = answer_at(index);
	struct http2_reply *r;
	__u32 len;

	if (!a || !a->frames)
		return false;
	head = head && a->frames > 1;
	len = head ? a->head_len : a->len;
	if (len > c->limit)
		return false;
	r = add_reply(c, head ? REPLY_HEAD : REPLY_ANSWER, len);
	r->answer = index;
	r->sum = a->sum;
	r->values[0] = stream;
	r->values[1] = retry;
	c->last_stream = stream;
	return true;
}

/* acknowledgeable returns the sequence number up to which the client's data may be acknowledged: those whose replies the client
 * has. If a reply is lost, the client sends what it replies to again. all: the reply that is sent is the only one that the client
 * may lack, so if it is lost, its acknowledgement is, too. */
static __always_inline __u32 acknowledgeable(struct kept_connection *c, bool all)
{
	return all || c->tail == c->head ? c->client.next + c->client_fin : reply_at(c, c->tail)->data;
}

/* What write_replies works on. */
struct replies_writer {
	struct __sk_buff *skb;
	struct kept_connection *connection;
	struct replies *out;
};

/* fit_reply adds the next reply to the segment if it fits. */
static long fit_reply(__u32 step, struct replies_writer *w)
{
	struct kept_connection *c = w->connection;
	struct http2_reply *r = reply_at(c, w->out->end);

	if (w->out->end == c->head || w->out->bytes + r->len > c->limit)
		return 1;
	w->out->bytes += r->len;
	w->out->end++;
	w->out->fin = ends_connection(r);
	return 0;
}

/* add_sum adds the sum of bytes that begin at an offset of the segment, where it counts with its bytes swapped if the offset is
 * odd (RFC 1071, 2). */
static __always_inline void add_sum(struct replies_writer *w, __u32 at, __u64 sum)
{
	__u32 s = fold(sum);

	w->out->sum += at & 1 ? (s & 0xff) << 8 | s >> 8 : s;
}

/* write_stream writes the identifier of a stream in the header of a frame at an offset of the segment. */
static __always_inline long write_stream(struct replies_writer *w, __u32 frame, __u32 stream)
{
	__be32 id = bpf_htonl(stream);

	add_sum(w, frame + 5, id);
	return bpf_skb_store_bytes(w->skb, w->out->payload + frame + 5, &id, sizeof(id), 0);
}

/* write_answer writes an answer behind what was written. The bytes that the client has must not change, so an answer that the
 * agent has replaced is not sent again. */
static __noinline long write_answer(struct replies_writer *w, const struct http2_reply *r)
{
	struct answer *a = answer_at(r->answer);
	__u32 n = r->len - 1, at = w->out->len;
	bool head = r->kind == REPLY_HEAD;
	const __u8 end_stream = FRAME_END_HEADERS | FRAME_END_STREAM;
	__u64 sum;
	long err;

	if (!a || a->sum != r->sum || r->len != (head ? a->head_len : a->len))
		return -1;
	/* In bounds: 1 <= n + 1 <= ANSWER_MAX. */
	asm volatile("" : "+r"(n));
	if (n > ANSWER_MAX - 1)
		return -1;
	err = bpf_skb_store_bytes(w->skb, w->out->payload + at, a->bytes, n + 1, 0);
	sum = head ? a->head_sum : a->sum;
	err |= write_retry(w->skb, w->out->payload + at, r->values[1], a, &sum);
	if (head) {
		err |= bpf_skb_store_bytes(w->skb, w->out->payload + at + 4, &end_stream, 1, 0);
		sum += FRAME_END_STREAM;
	}
	add_sum(w, at, sum);
	err |= write_stream(w, at, r->values[0]);
	if (!head && a->frames > 1)
		err |= write_stream(w, at + a->head_len, r->values[0]);
	return err;
}

/* frame_at writes the header of a frame to b. */
static __always_inline void frame_header(__u8 *b, __u8 len, enum frame_type type, __u8 flags)
{
	b[2] = len;
	b[3] = type;
	b[4] = flags;
}

/* write_small writes a reply that is no answer behind what was written. */
static __noinline long write_small(struct replies_writer *w, const struct http2_reply *r)
{
	__u8 b[SMALL_REPLY_MAX] __attribute__((aligned(8))) = {};
	__be32 first = bpf_htonl(r->values[0]), second = bpf_htonl(r->values[1]);
	__u32 n = r->len - 1;

	switch (r->kind) {
	case REPLY_GREETING:
		frame_header(b, 6, FRAME_SETTINGS, 0);
		b[10] = 4; /* SETTINGS_INITIAL_WINDOW_SIZE */
		first = bpf_htonl(FLOW_WINDOW_MAX);
		__builtin_memcpy(b + 11, &first, 4);
		if (r->len == GREETING_SETTINGS_LEN)
			break;
		frame_header(b + 15, 4, FRAME_WINDOW_UPDATE, 0);
		first = bpf_htonl(FLOW_WINDOW_MAX - FLOW_WINDOW_DEFAULT);
		__builtin_memcpy(b + 24, &first, 4);
		break;
	case REPLY_SETTINGS:
		frame_header(b, 0, FRAME_SETTINGS, FRAME_ACK);
		break;
	case REPLY_PING:
		frame_header(b, 8, FRAME_PING, FRAME_ACK);
		__builtin_memcpy(b + 9, r->values, 8);
		break;
	case REPLY_WINDOW:
		frame_header(b, 4, FRAME_WINDOW_UPDATE, 0);
		__builtin_memcpy(b + 9, &first, 4);
		break;
	case REPLY_GOAWAY:
		frame_header(b, 8, FRAME_GOAWAY, 0);
		__builtin_memcpy(b + 9, &first, 4);
		__builtin_memcpy(b + 13, &second, 4);
		break;
	default: /* REPLY_FIN has no bytes */
		return 0;
	}
	add_sum(w, w->out->len, sum_bytes(b, sizeof(b)));
	/* In bounds: 1 <= n + 1 <= SMALL_REPLY_MAX. The mask makes it visible to the verifier. */
	asm volatile("" : "+r"(n));
	n &= SMALL_REPLY_MAX - 1;
	return bpf_skb_store_bytes(w->skb, w->out->payload + w->out->len, b, n + 1, 0);
}

/* write_reply writes the next reply of the segment. */
static long write_reply(__u32 step, struct replies_writer *w)
{
	struct kept_connection *c = w->connection;
	struct http2_reply *r = reply_at(c, c->cursor);
	long err;

	if (c->cursor == w->out->end)
		return 1;
	if (r->kind == REPLY_ANSWER || r->kind == REPLY_HEAD)
		err = write_answer(w, r);
	else
		err = write_small(w, r);
	if (err) {
		w->out->failed = 1;
		return 1;
	}
	w->out->len += r->len;
	c->cursor++;
	return 0;
}

/* write_replies rewrites the packet to a segment with the replies from c->cursor on that fit it, and moves the cursor. Without
 * replies it is an acknowledgement. s has the timestamps. It returns 0 on success. */
__noinline long write_replies(struct __sk_buff *skb, const struct packet *pkt, struct kept_connection *c, struct segment *s)
{
	struct replies_writer w = { .skb = skb, .connection = c };
	struct stage *stage = this_stage();
	bool all;

	if (!pkt || !c || !s || !stage)
		return -1;
	w.out = &stage->replies;
	__builtin_memset(w.out, 0, sizeof(*w.out));
	all = c->cursor == c->tail;
	w.out->payload = pkt->l4 + sizeof(struct tcphdr) + options_len(s);
	w.out->end = c->cursor;
	bpf_loop(REPLIES, fit_reply, &w, 0);
	if (w.out->bytes > ANSWER_MAX)
		return -1;
	if (bpf_skb_change_tail(skb, w.out->payload + w.out->bytes, 0))
		return -1;
	bpf_loop(REPLIES, write_reply, &w, 0);
	if (w.out->failed)
		return -1;
	s->back = 1;
	s->ack = acknowledgeable(c, all && w.out->end == c->head);
	if (before(c->acknowledged, s->ack))
		c->acknowledged = s->ack;
	s->seq = c->cursor_seq;
	s->flags = TCP_ACK | (w.out->bytes ? TCP_PSH : 0) | (w.out->fin ? TCP_FIN : 0);
	c->cursor_seq += w.out->bytes + w.out->fin;
	return write_headers(skb, pkt, s, w.out->bytes, w.out->sum);
}

#define SEGMENTS_MAX 8 /* segments that answer a packet */

/* send_replies rewrites the packet to the segment with the last of the replies from c->cursor on, after copies with the others
 * were sent to the client. One segment holds about ten answers. What a client sends at once is so answered at once: what is not
 * acknowledged comes again only after 200 ms. It returns 0 on success. */
static __always_inline long send_replies(struct __sk_buff *skb, const struct packet *pkt, struct kept_connection *c,
					 struct segment *s)
{
	/* As finish sends the last one. */
	__u64 flags = pkt->hook == HOOK_INGRESS || (pkt->hook == HOOK_LOOPBACK && !pkt->nat) ? 0 : BPF_F_INGRESS;

	for (int i = 0; i < SEGMENTS_MAX; i++) {
		if (i && bpf_clone_redirect(skb, skb->ifindex, flags))
			return -1;
		if (write_replies(skb, pkt, c, s))
			return -1;
		s->turned = 1;
		if (c->cursor == c->head)
			break;
	}
	return 0;
}
