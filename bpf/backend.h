/* Packets that come from a backend. */
#pragma once

#include "flow.h"
#include "http1.h"

struct reader {
	struct __sk_buff *skb;
	struct flow *f;
	__u32 at; /* offset in the packet of the next byte */
	__u32 left;
	__u32 status; /* out */
	__u32 pad;
};

#define NOT_HTTP 1000

static __always_inline __u32 status_of(const __u8 *h)
{
	__u32 hundreds = h[9] - '0', tens = h[10] - '0', ones = h[11] - '0';

	if (h[0] != 'H' || h[1] != 'T' || h[2] != 'T' || h[3] != 'P' || h[4] != '/' || h[5] != '1' || h[6] != '.' ||
	    h[8] != ' ' || hundreds < 1 || hundreds > 9 || tens > 9 || ones > 9)
		return NOT_HTTP;
	return hundreds * 100 + tens * 10 + ones;
}

static __always_inline bool interim(__u32 status)
{
	return status >= 100 && status < 200 && status != 101;
}

/* Reads one byte: of a status line, or of the rest of a 1xx head up to its empty line. */
static long read_byte(__u32 step, struct reader *r)
{
	struct flow *f = r->f;
	__u32 have = f->head_len, line = f->line;
	__u8 b = 0;

	if (!r->left || bpf_skb_load_bytes(r->skb, r->at, &b, 1))
		return 1;
	f->expected++;
	r->at++;
	r->left--;
	if (f->flags & FLOW_INTERIM) {
		if (b == '\n' && line != LINE_INSIDE) {
			/* An empty line, however lines end. */
			f->line = LINE_INSIDE;
			f->head_len = 0;
			__sync_fetch_and_and(&f->flags, ~FLOW_INTERIM);
		} else if (b == '\n') {
			f->line = LINE_BEGUN;
		} else {
			f->line = b == '\r' && line == LINE_BEGUN ? LINE_RETURN : LINE_INSIDE;
		}
		return 0;
	}
	if (have >= STATUS_LINE)
		return 1;
	f->head[have] = b;
	f->head_len = have + 1;
	if (have + 1 < STATUS_LINE)
		return 0;
	r->status = status_of(f->head);
	if (!interim(r->status))
		return 1;
	r->status = 0;
	__sync_fetch_and_or(&f->flags, FLOW_INTERIM);
	return 0;
}

/* Reads on from f->expected, and returns the final status once its line is complete, 0 before. */
__noinline __u32 read_response(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	struct reader r = { .skb = skb, .f = f };
	__u32 skip;

	if (!f || !pkt)
		return 0;
	r.at = pkt->l4 + pkt->tcp_len;
	r.left = pkt->payload;
	skip = f->expected - pkt->seq;
	/* Below the expected byte all is old; above, something is missing that will be sent again. */
	if (before(f->expected, pkt->seq) || skip >= pkt->payload)
		return 0;
	r.at += skip;
	r.left -= skip;
	if (!f->head_len && !(f->flags & FLOW_INTERIM) && r.left >= STATUS_LINE) {
		__u8 line[STATUS_LINE];

		if (bpf_skb_load_bytes(skb, r.at, line, sizeof(line)))
			return 0;
		r.status = status_of(line);
		if (!interim(r.status)) {
			f->expected += STATUS_LINE;
			return r.status;
		}
		r.status = 0;
	}
	/* The rare way: a line in pieces, or 1xx heads, of which one packet may bring 16 KiB. */
	bpf_loop(16384, read_byte, &r, 0);
	return r.status;
}

/* note_response_end takes note of how the response ends whose status was just read, if that is ever asked: where requests
 * are answered. */
static __always_inline void note_response_end(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 status)
{
	struct circuit *c = circuit_of(f->circuit);
	struct policy *p = c ? policy_of(c) : NULL;
	__u32 body = BODY_LIKELY;
	struct message m = {};

	if (!p || p->reject != REJECT_RESPOND)
		return;
	if (f->flags & FLOW_HEAD || status == 204 || status == 304)
		body = BODY_NEVER;
	read_head(skb, pkt, f->expected - pkt->seq, body, &m);
	f->response_end = m.end;
	f->response_framing = m.framing;
	f->backend_tail = 0;
}

/* unanswered_result is the outcome when the backend ends the connection by this packet while a request is pending. On a
 * connection that was used before, the request may have crossed the backend's closing: then it was not acknowledged. */
static __always_inline __u32 unanswered_result(const struct flow *f, const struct packet *pkt, __u64 now)
{
	if (f->flags & FLOW_RACED || (f->flags & FLOW_USED && pkt->flags & TCP_ACK && !before(f->request_start, pkt->ack)))
		return RESULT_RACED;
	/* A forged request on a connection that does not exist is answered with a RST: where no SYN was seen, the backend
	 * must have sent something else before. */
	if ((f->flags & (FLOW_JOINED | FLOW_ANSWERING)) == FLOW_JOINED)
		return RESULT_UNKNOWN;
	return f->flags & FLOW_CLIENT_FIN ? client_left_result(f, now) : RESULT_RESET;
}

/* take_status ends the request, unless its client has sent a FIN: it may be gone, and answer with a RST. */
static __always_inline void take_status(const struct flow_key *key, struct flow *f, __u64 turn, __u32 status)
{
	__u64 now = bpf_ktime_get_ns();

	if (!(f->flags & FLOW_USED))
		__sync_fetch_and_or(&f->flags, FLOW_USED);
	if (status == NOT_HTTP) {
		end_request(key, f, turn, PHASE_TUNNEL, RESULT_UNKNOWN, now);
	} else if (status == 101 || (f->flags & FLOW_CONNECT && status / 100 == 2)) {
		end_request(key, f, turn, PHASE_TUNNEL, status, now);
	} else if (f->flags & FLOW_CLIENT_FIN) {
		f->status = status;
		f->responded = now;
		set_phase(f, turn, PHASE_RESPONDED);
	} else {
		end_request(key, f, turn, PHASE_IDLE, status, now);
	}
}

/* note_response_data keeps the end of a chunked response in view. */
static __always_inline void note_response_data(struct __sk_buff *skb, const struct packet *pkt, struct flow *f)
{
	__u32 end = pkt->seq + pkt->payload;

	if (f->response_framing != FRAMING_CHUNKED || !before(f->response_end, end))
		return;
	f->backend_tail = tail_after(skb, pkt, f->backend_tail, pkt->seq != f->response_end);
	f->response_end = end;
}

__noinline __u64 backend_packet(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n)
{
	__u64 d = decision(ACTION_PASS, REASON_FLOW), turn;
	__u32 status;
	struct flow *f;
	bool in_order;

	if (!n || !pkt)
		return 0;
	f = find_flow(&pkt->key);
	if (!f)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	turn = READ_ONCE(f->turn);

	if (pkt->flags & TCP_RST) {
		__u64 now = bpf_ktime_get_ns();
		__u32 result = RESULT_RESET;

		if (!backend_reset_fits(f, pkt, handshaking(phase_of(turn))))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		if (phase_of(turn) == PHASE_SYN)
			result = RESULT_CONNECT_REFUSED;
		else if (phase_of(turn) == PHASE_WAIT)
			result = unanswered_result(f, pkt, now);
		close_flow(&pkt->key, f, result, now);
		return d;
	}
	if (pkt->flags & TCP_SYN) {
		if (!acknowledges_syn(f, pkt))
			return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
		f->seen = bpf_ktime_get_coarse_ns();
		note_backend_ack(f, pkt);
		backend_syn_ack(&pkt->key, f, pkt->seq);
		return d;
	}
	/* Before its SYN-ACK a backend sends nothing. */
	if (handshaking(phase_of(turn)) && !(f->flags & FLOW_ANSWERING))
		return decision(ACTION_PASS, REASON_OUT_OF_SEQUENCE);
	f->seen = bpf_ktime_get_coarse_ns();
	if (!(f->flags & FLOW_ANSWERING))
		__sync_fetch_and_or(&f->flags, FLOW_ANSWERING);
	in_order = !before(f->backend_end, pkt->seq);
	note_backend_ack(f, pkt);
	note_backend_data(f, pkt);
	if (phase_of(turn) == PHASE_WAIT) {
		if (pkt->payload) {
			status = read_response(skb, pkt, f);
			if (status) {
				note_response_end(skb, pkt, f, status);
				take_status(&pkt->key, f, turn, status);
				turn = READ_ONCE(f->turn);
			}
		}
		/* A FIN in order, and no status line before it. */
		if (pkt->flags & TCP_FIN && phase_of(turn) == PHASE_WAIT && pkt->seq + pkt->payload == f->expected) {
			__u64 now = bpf_ktime_get_ns();

			end_request(&pkt->key, f, turn, PHASE_IDLE, unanswered_result(f, pkt, now), now);
		}
	}
	if (pkt->payload) {
		/* A new response where none is awaited: what may have been a request was one. */
		if (f->flags & FLOW_DOUBT && response_ended(f, pkt->seq)) {
			f->request_framing = FRAMING_UNKNOWN;
			__sync_fetch_and_and(&f->flags, ~FLOW_DOUBT);
		}
		note_response_data(skb, pkt, f);
	}
	if (pkt->flags & TCP_FIN)
		note_backend_fin(f, pkt->seq + pkt->payload, in_order);
	else if (f->flags & FLOW_BACKEND_FIN_AHEAD && f->backend_fin == f->backend_end)
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN);
	if (f->flags & FLOW_BACKEND_FIN)
		close_if_finished(&pkt->key, f);
	return d;
}
