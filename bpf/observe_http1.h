/* Observer of HTTP/1.x: it finds requests in the client's data and the status of each in the backend's data. One request per
 * connection is pending at a time. */
#pragma once

#include "admit.h"
#include "ahead.h"
#include "http1.h"
#include "proxy.h"
#include "stream.h"

/* http1_on_open sets the start of the first request and of the first response. */
static __always_inline void http1_on_open(struct flow *f)
{
	struct http1_state *h = &f->http1;

	h->request_end = f->isn + 1;
	h->request_framing = FRAMING_LENGTH;
	h->response_end = f->backend_next;
	h->response_framing = FRAMING_LENGTH;
}

/* request_may_begin reports whether a request may begin in the payload after the end of the last request, and sets pkt->skip to
 * its offset. */
static __always_inline bool request_may_begin(struct packet *pkt, const struct http1_state *h)
{
	pkt->skip = 0;
	if (h->request_framing == FRAMING_CHUNKED)
		return h->request_end == pkt->seq && ends_chunks(h->client_tail);
	if (h->request_framing == FRAMING_LENGTH && before(pkt->seq, h->request_end))
		pkt->skip = h->request_end - pkt->seq;
	return pkt->skip < pkt->payload;
}

/* count_opening counts the first bytes of a connection that are not a request. After a PROXY header it returns the method of
 * the request that follows. */
static __always_inline enum method count_opening(struct __sk_buff *skb, struct packet *pkt, struct flow *f)
{
	struct circuit *c = circuit_of(f->request.circuit);
	__u32 len = proxy_header(skb, pkt), what = len ? OPENING_PROXY : opening_of(skb, pkt);

	if (c)
		__sync_fetch_and_add(&c->openings[what & (OPENING_MAX - 1)], 1);
	if (!len)
		return METHOD_NONE;
	f->http1.request_end = pkt->seq + len;
	if (len >= pkt->payload)
		return METHOD_NONE;
	pkt->skip = len;
	return method(skb, pkt);
}

/* http1_request decides about a request, and resets the response state if it is admitted. The response follows the response
 * before it, of which the client may not have acknowledged all. */
static __always_inline __u64 http1_request(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f,
					   enum method kind)
{
	struct http1_state *h = &f->http1;
	__u32 response_at = pkt->ack;
	struct message m;
	__u64 d;

	if (h->response_framing != FRAMING_UNKNOWN && before(pkt->ack, h->response_end))
		response_at = h->response_end;
	pkt->is_head = kind == METHOD_HEAD;
	d = new_request(pkt, n, f, &f->request, response_at);
	if (d >> 32 != ACTION_PASS || (__u32)d == REASON_FLOW)
		return d;
	h->response_framing = FRAMING_UNKNOWN;
	h->head_len = 0;
	h->line = LINE_INSIDE;
	h->interim = 0;
	h->maybe_request = 0;
	h->method = kind;
	read_head(skb, pkt, pkt->skip, BODY_NAMED, &m);
	h->request_end = m.end;
	h->request_framing = m.framing;
	h->upgrade = m.upgrade ? UPGRADE_REQUESTED : UPGRADE_NONE;
	h->client_tail = 0;
	return d;
}

/* chunk_or_request decides about data that are either a chunk or a request after trailers. An open circuit does not admit them:
 * they could be a request. */
static __always_inline __u64 chunk_or_request(struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u32 reason = REASON_FLOW;
	struct lookup l;

	if (lookup_target(f->target, &l) == LOOKUP_FOUND && l.policy->existing)
		reason = certain_rejection(l.circuit, n, bpf_ktime_get_ns());
	if (reason != REASON_FLOW) {
		pkt->no_answer = 1;
		return decision(TODO_REJECT_REQUEST, reason);
	}
	f->http1.maybe_request = 1;
	return decision(ACTION_PASS, REASON_FLOW);
}

#define PREFACE_BEGIN 4 /* "PRI ", which begins no request of HTTP/1.x */

static const __u8 preface_begin[PREFACE_BEGIN] = { 'P', 'R', 'I', ' ' };

/* kept_preface_bytes adds bytes of "PRI " that came ahead of a gap to those that were seen. */
static __always_inline __u32 kept_preface_bytes(struct flow *f, __u32 seen)
{
	if (!f->ahead[SIDE_CLIENT])
		return seen;
#pragma unroll
	for (int i = 1; i < PREFACE_BEGIN; i++) {
		if (seen == i && kept_byte(f, f->http1.request_end + i) == preface_begin[i])
			seen++;
	}
	return seen;
}

/* preface_bytes returns how many bytes of "PRI " are complete with this packet, of which seen came before it. It returns 0 if the
 * connection begins with something else. */
static __always_inline __u32 preface_bytes(struct __sk_buff *skb, const struct packet *pkt, __u32 seen)
{
	__u32 at = pkt->l4 + pkt->tcp_len + pkt->skip, left = pkt->payload - pkt->skip;
	__u8 b = 0;

#pragma unroll
	for (int i = 0; i < PREFACE_BEGIN; i++) {
		if (i < seen || !left)
			continue;
		if (bpf_skb_load_bytes(skb, at, &b, 1) || b != preface_begin[i])
			return 0;
		at++;
		left--;
		seen++;
	}
	return seen;
}

/* connection_method returns the method of the first request of a connection. It returns METHOD_NONE for anything else, also
 * while a few bytes may begin either a request or the preface of HTTP/2; f->http1.preface counts the bytes of the latter. */
__noinline __u32 connection_method(struct __sk_buff *skb, struct packet *pkt, struct flow *f)
{
	enum method kind = METHOD_NONE;
	struct http1_state *h;
	__u32 seen;

	if (!f || !pkt)
		return METHOD_NONE;
	h = &f->http1;
	seen = h->preface;

	if (!seen) {
		kind = method(skb, pkt);
		if (kind != METHOD_NONE && pkt->payload - pkt->skip >= PREFACE_BEGIN)
			return kind;
	}
	h->preface = kept_preface_bytes(f, preface_bytes(skb, pkt, seen));
	if (h->preface)
		return METHOD_NONE;
	/* Every text that begins with "P" is taken for a request, as in method(). */
	if (seen)
		return METHOD_OTHER;
	/* What follows a PROXY header was counted with it. */
	if (kind == METHOD_NONE && h->request_end == f->isn + 1) {
		kind = count_opening(skb, pkt, f);
		if (kind == METHOD_NONE && pkt->skip)
			h->preface = preface_bytes(skb, pkt, 0);
	}
	return kind;
}

/* continues_beginning reports whether the packet has the next bytes of the beginning of the connection, of which up to three may
 * have been seen, and sets pkt->skip to their offset. */
static __always_inline bool continues_beginning(struct packet *pkt, const struct flow *f)
{
	__u32 next = f->http1.request_end + f->http1.preface;

	if (f->flags & FLOW_JOINED || f->requests || next - pkt->seq >= pkt->payload)
		return false;
	pkt->skip = next - pkt->seq;
	return true;
}

/* keep_before_preface keeps a packet ahead of a gap in which the preface may be. */
__noinline int keep_before_preface(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, struct flow *f)
{
	if (!pkt || !n || !f || !may_be_preface(f))
		return 0;
	new_connection_number(n, f);
	return keep_ahead(skb, pkt, f, SIDE_CLIENT, f->client_end);
}

/* begin_stage begins to observe HTTP/2 and leaves the packet to its stage. */
static __always_inline __u64 begin_stage(struct node_state *n, struct flow *f, __u32 seq, const enum begin begin)
{
	return begin_http2(n, f, seq, begin) ? decision(TODO_HTTP2_CLIENT, 0) : pass(REASON_TABLE_FULL);
}

/* http1_data decides about data while no request is pending: a new request, or the rest of a body whose response has already
 * arrived. */
__noinline __u64 http1_data(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	const __u64 pass = decision(ACTION_PASS, REASON_FLOW);
	enum method kind;
	__u32 seen;

	if (!f || !pkt || !n)
		return 0;
	if (request_may_begin(pkt, &f->http1)) {
		seen = f->http1.preface;
		if (continues_beginning(pkt, f))
			kind = connection_method(skb, pkt, f);
		else
			kind = method(skb, pkt);
		if (kind != METHOD_NONE)
			return http1_request(skb, pkt, n, f, kind);
		if (f->http1.preface >= PREFACE_BEGIN)
			return begin_stage(n, f, pkt->seq + pkt->skip - seen, BEGIN_PREFACE);
		if (f->flags & FLOW_JOINED && !f->requests && frames_begin(skb, pkt))
			return begin_stage(n, f, pkt->seq, BEGIN_JOINED);
		return pass;
	}
	pkt->skip = 0;
	if (f->http1.request_framing != FRAMING_CHUNKED || method(skb, pkt) == METHOD_NONE)
		return pass;
	return chunk_or_request(pkt, n, f);
}

static __always_inline __u64 http1_on_request(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 d = decision(ACTION_PASS, REASON_FLOW), state = READ_ONCE(f->request.state);
	struct http1_state *h = &f->http1;

	if (request_state_of(state) == REQUEST_WAIT)
		f->request.sent = bpf_ktime_get_ns(); /* the request continues: its latency counts from the last byte */
	else if (request_state_of(state) == REQUEST_NONE && phase_of(READ_ONCE(f->state)) == PHASE_OPEN)
		d = http1_data(skb, pkt, n, f);
	if (d >> 32 == ACTION_PASS && h->request_framing == FRAMING_CHUNKED) {
		h->client_tail = tail_after(skb, pkt, h->client_tail, pkt->seq != h->request_end);
		h->request_end = pkt->seq + pkt->payload;
	}
	return d;
}

struct reader {
	struct __sk_buff *skb;
	struct flow *f;
	__u32 at; /* offset of the next byte in the packet */
	__u32 left;
	__u32 status; /* out */
	__u32 pad;
};

#define NOT_HTTP (1 << 16) /* beyond every result */

static __always_inline __u32 status_of(const __u8 *h)
{
	__u32 hundreds = h[9] - '0', tens = h[10] - '0', ones = h[11] - '0';

	if (h[0] != 'H' || h[1] != 'T' || h[2] != 'T' || h[3] != 'P' || h[4] != '/' || h[5] != '1' || h[6] != '.' ||
	    h[8] != ' ' || hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9)
		return NOT_HTTP;
	return hundreds * 100 + tens * 10 + ones;
}

/* is_interim reports whether a head follows that is to be read up to its end. A 101 is final, unless the connection goes on with
 * HTTP/2. */
static __always_inline bool is_interim(const struct http1_state *h, __u32 status)
{
	return status >= 100 && status < 200 && (status != 101 || h->upgrade == UPGRADE_REQUESTED);
}

/* read_byte reads one byte of a status line, or of the rest of a 1xx head up to its empty line. */
static long read_byte(__u32 step, struct reader *r)
{
	struct flow *f = r->f;
	struct http1_state *h = &f->http1;
	__u32 have = h->head_len, line = h->line;
	__u8 b = 0;

	if (!r->left || bpf_skb_load_bytes(r->skb, r->at, &b, 1))
		return 1;
	f->backend_next++;
	r->at++;
	r->left--;
	if (h->interim) {
		if (b == '\n' && line != LINE_INSIDE) {
			/* An empty line, ended by LF or CRLF. */
			h->line = LINE_INSIDE;
			h->head_len = 0;
			h->interim = 0;
			if (h->upgrade == UPGRADE_ACCEPTED) {
				h->upgrade = UPGRADE_DONE;
				r->status = 101;
				return 1;
			}
		} else if (b == '\n') {
			h->line = LINE_BEGUN;
		} else {
			h->line = b == '\r' && line == LINE_BEGUN ? LINE_RETURN : LINE_INSIDE;
		}
		return 0;
	}
	if (have >= STATUS_LINE)
		return 1;
	h->head[have] = b;
	h->head_len = have + 1;
	if (have + 1 < STATUS_LINE)
		return 0;
	r->status = status_of(h->head);
	if (!is_interim(h, r->status))
		return 1;
	if (r->status == 101)
		h->upgrade = UPGRADE_ACCEPTED;
	r->status = 0;
	h->interim = 1;
	return 0;
}

/* read_response reads from f->backend_next on. It returns the final status when its status line is complete, otherwise 0. */
__noinline __u32 read_response(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	struct reader r = { .skb = skb, .f = f };
	struct http1_state *h;
	__u32 skip;

	if (!f || !pkt)
		return 0;
	h = &f->http1;
	r.at = pkt->l4 + pkt->tcp_len;
	r.left = pkt->payload;
	skip = f->backend_next - pkt->seq;
	/* Earlier bytes are retransmissions. Bytes beyond the next one follow a gap, which will be sent again. */
	if (before(f->backend_next, pkt->seq) || skip >= pkt->payload)
		return 0;
	r.at += skip;
	r.left -= skip;
	if (!h->head_len && !h->interim && r.left >= STATUS_LINE) {
		__u8 line[STATUS_LINE];

		if (bpf_skb_load_bytes(skb, r.at, line, sizeof(line)))
			return 0;
		r.status = status_of(line);
		if (!is_interim(h, r.status)) {
			f->backend_next += STATUS_LINE;
			return r.status;
		}
		r.status = 0;
	}
	/* Slow path: a status line in several packets, or 1xx heads, up to 16 KiB of them in one packet. */
	bpf_loop(16384, read_byte, &r, 0);
	return r.status;
}

/* record_response_end records the framing of the response whose status was just read. Only policies that answer rejected
 * requests need it. */
static __always_inline void record_response_end(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 status)
{
	struct http1_state *h = &f->http1;
	struct target *t = target_of(f->target);
	struct policy *p = t ? policy_of(t) : NULL;
	struct message m = {};

	if (!p || p->reject != REJECT_RESPOND)
		return;
	read_head(skb, pkt, f->backend_next - pkt->seq,
		  h->method == METHOD_HEAD || status == 204 || status == 304 ? BODY_NEVER : BODY_LIKELY, &m);
	h->response_end = m.end;
	h->response_framing = m.framing;
	h->backend_tail = 0;
}

/* enter_tunnel stops the observation of a connection that leaves HTTP/1.x. */
static __always_inline void enter_tunnel(struct flow *f)
{
	__u64 state = READ_ONCE(f->state);

	if (phase_of(state) == PHASE_OPEN)
		set_phase(f, state, PHASE_TUNNEL);
}

/* upgrade_http2 makes the pending request the first stream of a connection that goes on with HTTP/2. It returns 0 if there is no
 * room. */
__noinline int upgrade_http2(const struct flow_key *key, struct flow *f, __u64 state)
{
	struct node_state *n = the_node();
	struct http2_connection *c;
	struct stream s = {};
	struct stream_key k;

	if (!key || !f || !n)
		return 0;
	stream_key(&k, new_connection_number(n, f), 1);
	s.request = f->request;
	s.request.state = first_state(k.connection, 1);
	s.key = *key;
	if (bpf_map_update_elem(&streams, &k, &s, BPF_NOEXIST))
		return 0;
	if (!begin_http2(n, f, f->http1.request_end, BEGIN_UPGRADED)) {
		bpf_map_delete_elem(&streams, &k);
		return 0;
	}
	c = http2_connection_of(f);
	/* Another CPU may have ended the request, as the sweep does. */
	if (!change_state(&f->request.state, state, REQUEST_NONE) && c) {
		c->permits = 0;
		remove_stream(c, k.connection, 1);
	}
	__sync_fetch_and_and(&f->request.flags, ~(REQUEST_PERMIT | REQUEST_RESERVED));
	return 1;
}

/* apply_status ends the request with its status. After a FIN of the client the outcome is deferred: the client may reply with a
 * RST. */
static __always_inline void apply_status(const struct flow_key *key, struct flow *f, __u64 state, __u32 status)
{
	bool connect = f->http1.method == METHOD_CONNECT && status / 100 == 2;
	struct request *r = &f->request;
	__u64 now = bpf_ktime_get_ns();

	if (!(f->flags & FLOW_USED))
		__sync_fetch_and_or(&f->flags, FLOW_USED);
	if (status == 101 && f->http1.upgrade == UPGRADE_DONE && upgrade_http2(key, f, state))
		return;
	if (status == NOT_HTTP || status == 101 || connect) {
		if (end_request(key, r, state, status == NOT_HTTP ? RESULT_UNKNOWN : status, now))
			enter_tunnel(f);
	} else if (f->flags & FLOW_CLIENT_FIN) {
		hold_response(r, state, status, now);
	} else {
		end_request(key, r, state, status, now);
	}
}

/* read_greeting_byte reads a byte of the frames that the backend sends before the client's first bytes, or skips the payload of
 * a frame. */
static long read_greeting_byte(__u32 step, struct reader *r)
{
	struct http1_state *h = &r->f->http1;
	__u32 have = h->head_len;
	__u8 b = 0;

	if (!r->left || have >= FRAME_HEADER || bpf_skb_load_bytes(r->skb, r->at, &b, 1))
		return 1;
	h->head[have] = b;
	h->head_len = have + 1;
	r->at++;
	r->left--;
	if (have + 1 < FRAME_HEADER)
		return 0;
	/* The first frame is a SETTINGS frame (RFC 9113, 3.4), and none belongs to a stream. */
	if (read32(h->head + 5) || (h->greeting == GREETING_NONE && h->head[3] != FRAME_SETTINGS)) {
		h->greeting = GREETING_OTHER;
		return 1;
	}
	h->greeting = GREETING_FRAMES;
	have = (__u32)h->head[0] << 16 | (__u32)h->head[1] << 8 | h->head[2];
	h->response_end += FRAME_HEADER + have;
	h->head_len = 0;
	if (have > r->left)
		have = r->left;
	r->at += have;
	r->left -= have;
	return 0;
}

#define GREETING_STEPS 4096

/* read_greeting reads where the frames end that the backend sends before the client's first bytes. */
__noinline int read_greeting(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	struct reader r = { .skb = skb, .f = f };
	struct http1_state *h;
	__u32 skip;

	if (!f || !pkt)
		return 0;
	h = &f->http1;
	skip = h->response_end + h->head_len - pkt->seq;
	if (h->greeting == GREETING_OTHER || skip >= pkt->payload)
		return 0;
	r.at = pkt->l4 + pkt->tcp_len + skip;
	r.left = pkt->payload - skip;
	bpf_loop(GREETING_STEPS, read_greeting_byte, &r, 0);
	return 0;
}

static __always_inline void http1_on_response(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	__u32 end = pkt->seq + pkt->payload, status;
	__u64 state = READ_ONCE(f->request.state);
	struct http1_state *h = &f->http1;

	if (!f->requests && !(f->flags & FLOW_JOINED)) {
		read_greeting(skb, pkt, f);
		return;
	}
	if (request_state_of(state) == REQUEST_WAIT) {
		status = read_response(skb, pkt, f);
		if (status) {
			record_response_end(skb, pkt, f, status);
			apply_status(&pkt->key, f, state, status);
		}
	}
	/* A response without a pending request: the data that was taken for a body was a request. */
	if (h->maybe_request && http1_response_ended(h, pkt->seq)) {
		h->request_framing = FRAMING_UNKNOWN;
		h->maybe_request = 0;
	}
	/* Record the last bytes of a chunked response. */
	if (h->response_framing == FRAMING_CHUNKED && before(h->response_end, end)) {
		h->backend_tail = tail_after(skb, pkt, h->backend_tail, pkt->seq != h->response_end);
		h->response_end = end;
	}
}
