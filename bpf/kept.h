/* HTTP/2 connections that the kernel answers and keeps open. A client sends many requests on a connection, and takes its end for a
 * failure of the network: so the connection stays open while the circuit rejects, and each stream gets an answer. When the circuit
 * admits again, the connection ends: see end_or_answer.
 *
 * The programs run for packets of the client only, so every reply is to a packet, and only a packet of the client can bring a lost
 * reply again. So data are acknowledged when the client has the replies to them, see acknowledgeable: until then its TCP sends them
 * again, and is sent the replies again. */
#pragma once

#include "frames.h"
#include "reject.h"
#include "render_http2.h"

#define FRAME_MAX 16384 /* largest frame that the greeting allows (RFC 9113, 6.5.2) */
#define BLOCK_MAX 131072 /* largest header block, with the headers of its frames */
#define WINDOW_STEP (1U << 30) /* bytes of DATA after which the connection's window is raised again */
#define REPEAT_INTERVAL (20LL * 1000000) /* ns: a tenth of the shortest time after which TCP sends again */
#define WINDOW_STEP_TAKEN 16384 /* the same if the backend has set the window: the smallest is 65,535 (RFC 9113, 6.9.2) */
#define ENDING_TIME (100ULL * 1000000) /* ns, see end_or_answer */
#define LOCK_TRIES 2048

/* What the walk over a client's packet works on. */
struct keeper {
	struct __sk_buff *skb;
	struct stage *stage;
	struct kept_connection *connection;
	struct policy *policy; /* NULL: the backend has none any more */
	struct circuit *circuit;
};

static __noinline void store_kept(const struct flow_key *key, const struct kept_connection *c)
{
	struct node_state *n = the_node();
	struct flow_key k = *key;

	bpf_map_update_elem(&kept, &k, c, BPF_ANY);
	if (n)
		extend_keeping(n, bpf_ktime_get_coarse_ns());
}

static __noinline void remove_kept(const struct flow_key *key)
{
	struct flow_key k = *key;

	bpf_map_delete_elem(&kept, &k);
	bpf_map_delete_elem(&answered, &k);
}

/* permit_left reports whether a probe would get a permit. */
static __always_inline bool permit_left(const struct verdict *v)
{
	__u64 permits = READ_ONCE(v->permits);

	return (__u32)permits < v->calls && permits >> 32 < v->concurrent;
}

/* limit_reached returns the reason for which a limit rejects a new connection or its first request, 0 if none does. It takes
 * nothing. */
static __always_inline __u32 limit_reached(const struct lookup *l, const struct node_state *n, __u64 now, bool probe, __u64 *until)
{
	const struct policy *p = l->policy;

	if (p->max_connections && READ_ONCE(l->target->connections) >= p->max_connections)
		return REASON_CONNECTION_LIMIT;
	if ((p->max_connections || probe) && READ_ONCE(n->flow_count) >= n->flow_max)
		return REASON_CONNECTION_LIMIT;
	if (p->max_requests && READ_ONCE(l->circuit->requests) >= p->max_requests)
		return REASON_REQUEST_LIMIT;
	if (p->rate_interval && READ_ONCE(l->target->rate_next) > now + p->rate_burst) {
		*until = READ_ONCE(l->target->rate_next) - p->rate_burst;
		return REASON_RATE_LIMIT;
	}
	return 0;
}

/* why_rejected returns the reason for which a new connection with a request would be rejected now. Any other reason means that it
 * might be admitted. It takes no permit. */
static __always_inline __u32 why_rejected(const struct lookup *l, const struct node_state *n, const struct flow_key *key,
					  __u64 now, __u64 *until)
{
	struct admission adm = {};
	struct verdict *v = verdict_of(l->circuit);

	if (l->policy->protocol != PROTOCOL_HTTP)
		return REASON_ADMITTED;
	if (lease_expired(n, now))
		return REASON_LEASE_EXPIRED;
	if (monitored(l->circuit))
		return REASON_MONITORED;
	circuit_admit(l->circuit, now, ramp_draw(n, l->circuit, key), &adm);
	*until = adm.until;
	if (is_rejection(adm.reason))
		return adm.reason;
	if (adm.reason == REASON_PROBE && !permit_left(v))
		return REASON_HALF_OPEN;
	if (v->kind == VERDICT_DISABLED)
		return REASON_ADMITTED;
	return limit_reached(l, n, now, adm.reason == REASON_PROBE, until) ?: adm.reason;
}

/* read_verdict asks the circuit of the packet's destination. */
static __noinline int read_verdict(struct keeper *w, struct node_state *n)
{
	struct packet *pkt = &w->stage->pkt;
	struct endpoint ep;
	struct lookup l;
	__u64 until = 0, now = w->stage->walk.now;

	destination_of(w->skb, pkt, &ep);
	if (lookup_endpoint(&ep, &l) != LOOKUP_FOUND) {
		w->stage->keep.reason = REASON_UNTRACKED;
		return 0;
	}
	w->policy = l.policy;
	w->circuit = l.circuit;
	w->stage->keep.reason = why_rejected(&l, n, &pkt->key, now, &until);
	w->stage->keep.retry = seconds_until(until, now);
	/* The ingress program looks at packets of this connection for as long as the circuit answers. */
	if (!is_rejection(w->stage->keep.reason))
		return 0;
	extend_answering(&l.circuit->answering_until, now);
	if (pkt->hook == HOOK_INGRESS)
		extend_answering(&n->answering_until, now);
	return 0;
}

/* added counts the bytes of a reply into segments, as write_replies does. */
static __always_inline void added(struct keeper *w, __u32 len)
{
	if (len > w->stage->keep.room) {
		w->stage->keep.segments++;
		w->stage->keep.room = w->connection->limit;
	}
	w->stage->keep.room -= len;
}

/* close_kept adds GOAWAY. Nothing after it is read. */
static __always_inline void close_kept(struct keeper *w, __u32 error)
{
	if (w->connection->closed)
		return;
	add_goaway(w->connection, error);
	added(w, GOAWAY_LEN);
}

/* is_full reports whether there may be no place for the reply to a frame. The places for GOAWAY and FIN stay free. */
static __always_inline bool is_full(const struct keeper *w, __u32 len)
{
	const struct kept_connection *c = w->connection;

	return c->head - c->tail > REPLIES - 4 ||
	       (w->stage->keep.segments >= SEGMENTS_MAX && w->stage->keep.room < len + GOAWAY_LEN);
}

static __always_inline bool is_new_stream(const struct kept_connection *c, __u32 stream)
{
	return stream > c->last_stream;
}

/* is_acceptable reports whether a client may send a frame like this here. */
static __always_inline bool is_acceptable(struct kept_connection *c)
{
	struct frames *fr = &c->client;

	/* A backend may have allowed larger ones. */
	if (fr->left > FRAME_MAX && !c->had_backend)
		return false;
	switch (fr->type) {
	case FRAME_HEADERS:
		c->block_size = 0;
		if (!(fr->stream & 1))
			return false;
		/* fallthrough */
	case FRAME_CONTINUATION:
		c->block_size += FRAME_HEADER + fr->left;
		return c->block_size <= BLOCK_MAX;
	case FRAME_PUSH_PROMISE:
		return false;
	case FRAME_PING:
		return fr->left == 8;
	default:
		return true;
	}
}

/* on_data raises the window of the connection when much of it is used. The windows of streams are large enough: a client stops
 * sending when it has the answer. */
static __always_inline void on_data(struct keeper *w)
{
	struct kept_connection *c = w->connection;

	c->received += c->client.left;
	if (c->received < (c->had_backend ? WINDOW_STEP_TAKEN : WINDOW_STEP) || is_full(w, WINDOW_LEN))
		return;
	add_reply(c, REPLY_WINDOW, WINDOW_LEN)->values[0] = c->received;
	added(w, WINDOW_LEN);
	c->received = 0;
}

/* on_frame handles the header of a frame. It returns false if there is no place for the reply: the walk then stops before the
 * frame. A header block must not be read twice, so the place of an answer is needed before it. */
static __always_inline bool on_frame(struct keeper *w)
{
	struct kept_connection *c = w->connection;
	struct frames *fr = &c->client;
	bool is_ack = fr->flags & FRAME_ACK;

	switch (fr->type) {
	case FRAME_HEADERS:
		return !is_new_stream(c, fr->stream) || !is_full(w, c->limit);
	case FRAME_PING:
		return is_ack || !is_full(w, PING_LEN);
	case FRAME_SETTINGS:
		if (is_ack)
			return true;
		if (is_full(w, SETTINGS_ACK_LEN))
			return false;
		add_reply(c, REPLY_SETTINGS, SETTINGS_ACK_LEN);
		added(w, SETTINGS_ACK_LEN);
		return true;
	case FRAME_DATA:
		on_data(w);
		return true;
	default:
		return true;
	}
}

static __always_inline void on_ping(struct keeper *w)
{
	struct kept_connection *c = w->connection;

	if (c->client.flags & FRAME_ACK)
		return;
	__builtin_memcpy(add_reply(c, REPLY_PING, PING_LEN)->values, c->client.head, 8);
	added(w, PING_LEN);
}

/* end_or_answer decides about a stream that the circuit does not reject any more. It returns the reason of an answer, or 0 after
 * GOAWAY. Clients of gRPC send a stream that GOAWAY leaves out again on a new connection, and so lose nothing. Many clients of HTTP
 * do not: they fail the stream, and some keep the connection. So a stream of HTTP gets one more answer, and GOAWAY follows when
 * the client waits for nothing. A client that never waits gets it with its first stream after ENDING_TIME. */
static __always_inline __u32 end_or_answer(struct keeper *w, __u32 content)
{
	struct kept_connection *c = w->connection;
	__u64 now = w->stage->walk.now;

	if (w->policy && content != HPACK_CONTENT_GRPC && !(content == HPACK_UNKNOWN && c->grpc) &&
	    (!c->ending || now - c->ending < ENDING_TIME)) {
		if (!c->ending)
			c->ending = now;
		return c->reason;
	}
	close_kept(w, ERROR_NONE);
	return 0;
}

/* ends_idle reports whether a connection is to end, and its client waits for nothing. */
static __always_inline bool ends_idle(const struct kept_connection *c)
{
	return c->ending && !c->closed && c->tail == c->head && c->client.phase == FRAMES_HEADER && !c->client.have &&
	       !c->client.block_stream;
}

/* on_request_headers answers a stream whose header block is complete. */
static __noinline int on_request_headers(struct keeper *w)
{
	struct kept_connection *c = w->connection;
	struct hpack *h = &c->client.hpack;
	__u32 content = hpack_value(h, HPACK_CONTENT_TYPE), index, next = c->next;
	bool head = hpack_value(h, HPACK_METHOD) == HPACK_METHOD_HEAD;
	__u32 reason = w->stage->keep.reason;

	if (!is_rejection(reason) || !w->policy)
		reason = end_or_answer(w, content);
	if (!reason)
		return 0;
	if (w->stage->keep.count_only) {
		count_rejection(w->circuit, reason, REJECT_RESET);
		c->last_stream = c->client.block_stream;
		w->stage->keep.answered++;
		return 0;
	}
	/* What a type that the walk does not know may be depends on what the client sent before. */
	if (content != HPACK_UNKNOWN)
		c->grpc = content == HPACK_CONTENT_GRPC;
	index = w->policy->reject == REJECT_RESPOND ? http2_answer(w->policy, reason, c->grpc) : ANSWER_NONE;
	if (!add_answer(c, index, c->client.block_stream, head, w->stage->keep.retry)) {
		count_rejection(w->circuit, reason, REJECT_RESET);
		w->stage->keep.reset = 1;
		return 0;
	}
	added(w, c->next - next);
	count_rejection(w->circuit, reason, REJECT_RESPOND);
	w->stage->keep.answered++;
	return 0;
}

/* on_block handles a header block. */
static __always_inline void on_block(struct keeper *w)
{
	struct kept_connection *c = w->connection;
	struct frames *fr = &c->client;

	if (fr->hpack.broken)
		fr->phase = FRAMES_BROKEN;
	else if (is_new_stream(c, fr->block_stream))
		on_request_headers(w);
	fr->block_stream = 0;
}

/* read_kept_frame reads the next unit of a frame. */
static long read_kept_frame(__u32 step, struct keeper *w)
{
	struct walk *k = &w->stage->walk;
	struct kept_connection *c = w->connection;
	struct frames *fr = &c->client;
	enum frame_event event = AT_NOTHING;

	if (k->at >= k->end || c->closed || w->stage->keep.reset)
		return 1;
	if (fr->phase == FRAMES_SKIP) {
		skip_payload(fr, k);
	} else if (k->at - k->base >= k->fill && !load_packet(w->skb, k)) {
		return 1;
	} else if (fr->phase == FRAMES_HEADER) {
		if (!collect(fr, k, FRAME_HEADER))
			return 0;
		if (!parse_header(fr) || !is_acceptable(c)) {
			fr->phase = FRAMES_BROKEN;
			return 1;
		}
		if (!on_frame(w)) {
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
	if (event == AT_BLOCK)
		on_block(w);
	else if (event == AT_PING)
		on_ping(w);
	return 0;
}

/* walk_kept reads the data of a packet from client.next on, and adds the replies to them. */
static __always_inline void walk_kept(struct keeper *w)
{
	struct kept_connection *c = w->connection;
	struct frames *fr = &c->client;
	struct packet *pkt = &w->stage->pkt;
	struct walk *k = &w->stage->walk;
	__u32 payload = pkt->l4 + pkt->tcp_len;

	k->at = payload + (fr->next - pkt->seq);
	k->end = payload + pkt->payload;
	k->base = k->at;
	k->fill = 0;
	k->frame_at = k->at;
	k->frame_have = fr->have;
	k->stop = 0;
	if (!c->greeted) {
		c->greeted = 1;
		add_reply(c, REPLY_GREETING, GREETING_LEN);
		added(w, GREETING_LEN);
	}
	bpf_loop(FRAME_STEPS, read_kept_frame, w, 0);
	if (!k->stop && !c->closed && !w->stage->keep.reset && (k->at < k->end || fr->phase == FRAMES_BROKEN)) {
		if (w->circuit)
			__sync_fetch_and_add(&w->circuit->openings[OPENING_MALFORMED_HTTP2], 1);
		close_kept(w, ERROR_PROTOCOL);
	}
	if (c->closing && w->stage->keep.answered && !w->stage->keep.reset)
		close_kept(w, ERROR_NONE);
	fr->next = c->closed ? pkt->seq + pkt->payload : pkt->seq + (k->at - payload);
}

/* drop_acknowledged removes a reply that the client has acknowledged. */
static long drop_acknowledged(__u32 step, struct kept_connection **w)
{
	struct kept_connection *c = *w;
	struct http2_reply *r = reply_at(c, c->tail);
	__u32 end = c->start + r->len + ends_connection(r);

	if (c->tail == c->head || before(c->acked, end))
		return 1;
	c->start = end;
	c->tail++;
	return 0;
}

/* read_ack records what the client has acknowledged. */
static __always_inline void read_ack(struct kept_connection *c, const struct packet *pkt)
{
	struct kept_connection *w = c;

	if (!(pkt->flags & TCP_ACK) || before(pkt->ack, c->acked) || before(c->next, pkt->ack))
		return;
	c->acked = pkt->ack;
	bpf_loop(REPLIES, drop_acknowledged, &w, 0);
}

/* may_repeat limits how often replies are sent again. A client that gets a packet twice sends one, so without a limit a network
 * that duplicates packets would keep both sides busy. */
static __always_inline bool may_repeat(struct kept_connection *c)
{
	__u64 now = bpf_ktime_get_ns();

	if ((__s64)(now - c->repeated) < REPEAT_INTERVAL)
		return false;
	c->repeated = now;
	return true;
}

/* reset_kept resets a connection on which a client cannot be answered any more. */
static __always_inline __u64 reset_kept(struct __sk_buff *skb, const struct packet *pkt, struct segment *s, __u32 reason)
{
	remove_kept(&pkt->key);
	s->back = 1;
	s->flags = TCP_RST | TCP_ACK;
	s->seq = pkt->ack;
	s->ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	return rewritten(rewrite(skb, pkt, s), ACTION_RESET, reason);
}

/* reply_kept sends the replies from a number on, or an acknowledgement if there are none. */
static __always_inline __u64 reply_kept(struct __sk_buff *skb, const struct packet *pkt, struct kept_connection *c,
					struct segment *s, __u32 seq, __u32 from)
{
	c->cursor = from;
	c->cursor_seq = seq;
	if (send_replies(skb, pkt, c, s))
		return decision(ACTION_DROP, REASON_ERROR);
	return decision(ACTION_ACK, REASON_ANSWERED);
}

/* skip_gap continues behind a gap that lies in bytes that are thrown away. Uploads are most of what clients send, and each gap
 * would cost 200 ms: the kernel holds no data until a gap is closed. */
static __always_inline void skip_gap(struct frames *fr, const struct packet *pkt)
{
	__u32 gap = pkt->seq - fr->next;

	if (!before(fr->next, pkt->seq) || fr->phase != FRAMES_SKIP || gap > fr->left)
		return;
	fr->next = pkt->seq;
	fr->left -= gap;
	if (fr->left)
		return;
	fr->phase = FRAMES_HEADER;
	fr->have = 0;
}

/* needs_ack reports whether a packet without a reply is acknowledged. */
static __always_inline bool needs_ack(struct kept_connection *c, const struct packet *pkt, bool old)
{
	bool ahead = pkt->payload && before(c->client.next + c->client_fin, pkt->seq);

	if (old || ahead)
		return c->tail == c->head;
	return before(c->acknowledged, acknowledgeable(c, false));
}

/* kept_packet decides about a packet on a connection that has begun. The caller holds the connection. */
static __noinline __u64 kept_packet(struct __sk_buff *skb, struct stage *s, struct node_state *n, struct kept_connection *c)
{
	struct keeper w = { .skb = skb, .stage = s, .connection = c };
	struct segment out = { .answer = ANSWER_NONE };
	struct packet *pkt = &s->pkt;
	struct frames *fr = &c->client;
	__u32 head = c->head, seq = c->next, end = pkt->seq + pkt->payload;
	bool in_order, again, old;
	__u64 d;

	__builtin_memset(&s->keep, 0, sizeof(s->keep));
	read_ack(c, pkt);
	if (pkt->payload && !c->closed)
		skip_gap(fr, pkt);
	in_order = !before(fr->next, pkt->seq);
	/* Data are sent again, or the client probes whether the connection is alive. */
	old = before(pkt->seq, fr->next + c->client_fin);
	again = old && c->tail != head && may_repeat(c);
	if (in_order && before(fr->next, end) && !c->client_fin) {
		s->walk.now = bpf_ktime_get_ns();
		extend_keeping(n, s->walk.now);
		if (c->closed) {
			fr->next = end;
		} else {
			read_verdict(&w, n);
			walk_kept(&w);
		}
	}
	if (!w.stage->keep.answered && !w.stage->keep.reset && fr->next == end && ends_idle(c))
		close_kept(&w, ERROR_NONE);
	if (in_order && pkt->flags & TCP_FIN && fr->next == end && !c->client_fin && !w.stage->keep.reset) {
		c->client_fin = 1;
		if (!c->closed)
			add_reply(c, REPLY_FIN, 0);
	}
	if (!again && c->head == head && !w.stage->keep.reset && !needs_ack(c, pkt, old))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	echo_ts(skb, pkt, &out);
	if (w.stage->keep.reset)
		return reset_kept(skb, pkt, &out, w.stage->keep.reason);
	if (again)
		d = reply_kept(skb, pkt, c, &out, c->start, c->tail);
	else
		d = reply_kept(skb, pkt, c, &out, seq, head);
	if (d >> 32 == ACTION_ACK && (w.stage->keep.answered || (w.stage->keep.reason && !is_rejection(w.stage->keep.reason) &&
								 c->head != head && c->closed)))
		return decision(ACTION_RESPOND, w.stage->keep.reason);
	return d;
}

enum preface {
	PREFACE_NONE,
	PREFACE_MAYBE, /* the payload is shorter than what tells them apart */
	PREFACE_BEGINS,
};

/* preface_at reports whether the preface of HTTP/2 begins at pkt->skip. */
static __always_inline enum preface preface_at(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 word, mask;

	if (!load_word(skb, pkt, &word, &mask) || !IS("PRI "))
		return PREFACE_NONE;
	if (mask == 0xffffffff)
		return PREFACE_BEGINS;
	return pkt->flags & TCP_FIN ? PREFACE_NONE : PREFACE_MAYBE;
}

/* find_preface does the same after a PROXY header, if there is one. */
static __always_inline enum preface find_preface(struct __sk_buff *skb, struct packet *pkt)
{
	enum preface p;
	__u32 skip;

	pkt->skip = 0;
	p = preface_at(skb, pkt);
	if (p != PREFACE_NONE || method(skb, pkt) != METHOD_NONE)
		return p;
	skip = proxy_header(skb, pkt);
	if (!skip || skip >= pkt->payload)
		return p;
	pkt->skip = skip;
	return preface_at(skb, pkt);
}

/* begins_http2 decides who handles the first data of a connection whose SYN was answered. */
__noinline __u64 begins_http2(struct __sk_buff *skb, struct packet *pkt, __u32 reason)
{
	enum preface p;

	if (!pkt)
		return 0;
	if (pkt->flags & TCP_RST || !pkt->payload || !pkt->first_segment)
		return decision(TODO_COOKIE_PACKET, reason);
	p = find_preface(skb, pkt);
	pkt->skip = 0;
	return decision(p == PREFACE_NONE ? TODO_COOKIE_PACKET : TODO_HTTP2_KEPT, reason);
}

/* create_kept creates the entry of a connection whose first data begin like HTTP/2. reason: why its SYN was answered. */
static __noinline struct kept_connection *create_kept(const struct packet *pkt, __u32 reason)
{
	struct answered_flow done = { .start = pkt->ack, .next = pkt->ack, .answer = ANSWER_NONE, .isn = pkt->seq - 1, .kept = 1 };
	__u32 zero = 0;
	struct kept_connection *c = bpf_map_lookup_elem(&new_kept, &zero);

	if (!c)
		return NULL;
	__builtin_memset(c, 0, __builtin_offsetof(struct kept_connection, replies));
	begin_frames(&c->client, pkt->seq);
	c->target = pkt->target;
	c->isn = pkt->seq - 1;
	c->reason = reason;
	c->start = pkt->ack;
	c->next = pkt->ack;
	c->acked = pkt->ack;
	c->acknowledged = pkt->seq;
	c->limit = ANSWER_MAX;
	store_kept(&pkt->key, c);
	store_answered(&pkt->key, &done);
	return find_kept(&pkt->key);
}

/* begin_kept handles data of a client that may become HTTP/2. Before four bytes have come in one packet nothing is acknowledged, so
 * that TCP sends all from the first byte on again. */
static __noinline __u64 begin_kept(struct __sk_buff *skb, struct packet *pkt, struct kept_connection *c)
{
	if (pkt->flags & TCP_RST) {
		remove_kept(&pkt->key);
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	}
	if (pkt->seq != c->client.next || !pkt->payload)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	switch (find_preface(skb, pkt)) {
	case PREFACE_NONE:
		pkt->target = c->target;
		pkt->first_segment = 1;
		pkt->skip = 0;
		remove_kept(&pkt->key);
		return decision(TODO_COOKIE_PACKET, c->reason);
	case PREFACE_MAYBE:
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	default:
		break;
	}
	c->client.next += pkt->skip;
	c->client.phase = FRAMES_SKIP;
	c->client.left = PREFACE_LEN;
	c->begun = 1;
	return 0;
}

struct lock_attempt {
	struct frames *frames;
	__u64 held;
};

static long try_lock(__u32 step, struct lock_attempt *w)
{
	w->held = !__sync_val_compare_and_swap(&w->frames->busy, 0, 1);
	return w->held;
}

/* hold_kept makes sure that no other CPU handles a packet of the connection, which takes some microseconds. */
static __always_inline bool hold_kept(struct kept_connection *c)
{
	struct lock_attempt w = { .frames = &c->client };

	bpf_loop(LOCK_TRIES, try_lock, &w, 0);
	return w.held;
}

static __always_inline void release_kept(struct kept_connection *c)
{
	*(volatile __u32 *)&c->client.busy = 0;
}

/* evicted_packet resets a connection whose entry was evicted. */
static __noinline __u64 evicted_packet(struct __sk_buff *skb, const struct packet *pkt)
{
	struct segment out = { .answer = ANSWER_NONE };

	if (pkt->flags & TCP_RST)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	return reset_kept(skb, pkt, &out, REASON_ANSWERED);
}

/* http2_on_kept decides about a packet of a client. s->argument: 0, or why the SYN was answered if these are the first data. */
static __always_inline __u64 http2_on_kept(struct __sk_buff *skb, struct stage *s, struct node_state *n)
{
	struct kept_connection *c = s->argument ? create_kept(&s->pkt, s->argument) : find_kept(&s->pkt.key);
	struct packet *pkt = &s->pkt;
	__u64 d = 0;

	if (!c)
		return evicted_packet(skb, pkt);
	/* The reset for the backend, during which this CPU holds the connection, or the client's reply to a backend that did not
	 * get it. */
	if (c->had_backend && pkt->flags & TCP_RST)
		return decision(ACTION_PASS, REASON_ANSWERED);
	if (!hold_kept(c))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (!c->begun)
		d = begin_kept(skb, pkt, c);
	if (!d && pkt->flags & TCP_RST) {
		d = decision(ACTION_SWALLOW, REASON_ANSWERED);
		if (!before(pkt->seq, c->client.next))
			remove_kept(&pkt->key);
	}
	if (!d)
		d = kept_packet(skb, s, n, c);
	release_kept(c);
	return d >> 32 == TODO_COOKIE_PACKET ? cookie_packet(skb, pkt, d) : d;
}
