/* Sequence and acknowledgement numbers that the two ends of a followed connection accept. A sender that is not on the path may
 * know addresses and ports but must guess these numbers. A packet with other numbers passes and changes no state. */
#pragma once

#include "parse.h"

#define WINDOW_MAX (1U << 30) /* maximum window (RFC 7323, 2.3) */

/* between reports whether first <= seq <= last. */
static __always_inline bool between(__u32 seq, __u32 first, __u32 last)
{
	return seq - first <= last - first;
}

/* client_reset_fits reports whether the backend accepts a RST: its number must be the next one that the receiver expects (RFC
 * 5961, 3.2). That is the number that the receiver has acknowledged, or the one after all data sent, with or without a FIN. */
static __always_inline bool client_reset_fits(const struct flow *f, const struct packet *pkt)
{
	return pkt->seq == f->acked || pkt->seq == f->client_end || between(pkt->seq, f->client_max, f->client_max + 1);
}

/* acknowledges_syn reports whether a reply to a SYN acknowledges it, and at most the data that it carried. */
static __always_inline bool acknowledges_syn(const struct flow *f, const struct packet *pkt)
{
	return pkt->flags & TCP_ACK && !(f->flags & FLOW_JOINED) && between(pkt->ack, f->isn + 1, f->client_max);
}

/* backend_reset_fits reports whether the client accepts a RST. A RST in reply to a segment has the number that the segment
 * acknowledged: f->backend_next for a request. A RST in reply to a SYN acknowledges it and may have any number. */
static __always_inline bool backend_reset_fits(const struct flow *f, const struct packet *pkt, bool handshake)
{
	if (handshake && acknowledges_syn(f, pkt))
		return true;
	if (handshake && !(f->flags & FLOW_ANSWERING))
		return false;
	return pkt->seq == f->client_ack || pkt->seq == f->backend_next || between(pkt->seq, f->backend_end, f->backend_end + 1);
}

/* acknowledges_backend checks data of the client ahead of a gap, which only a sender that has seen the backend's data can
 * acknowledge: the acknowledgement is at most 64 KiB older than the latest one, and not beyond what the backend has sent (RFC
 * 5961, 5.2). It cannot be checked if responses take another path. */
static __always_inline bool acknowledges_backend(const struct flow *f, const struct packet *pkt)
{
	if (!(f->flags & FLOW_ANSWERING))
		return true;
	return pkt->flags & TCP_ACK && between(pkt->ack, f->client_ack - (1U << 16), f->backend_end + 1);
}

/* acknowledges_client checks data of the backend in the same way against what the client has sent. */
static __always_inline bool acknowledges_client(const struct flow *f, const struct packet *pkt)
{
	return pkt->flags & TCP_ACK && between(pkt->ack, f->acked - (1U << 16), f->client_max + 1);
}

/* is_syn_of reports whether a sequence number is that of the SYN of the connection. */
static __always_inline bool is_syn_of(const struct flow *f, __u32 seq)
{
	return seq == f->isn && !(f->flags & FLOW_JOINED);
}

/* is_new reports whether a packet of the client carries data beyond client_end. Other data are retransmissions, or were seen on
 * another interface. */
static __always_inline bool is_new(const struct flow *f, const struct packet *pkt)
{
	return pkt->payload && before(f->client_end, pkt->seq + pkt->payload);
}

/* may_be_preface reports whether the connection may still begin with the preface of HTTP/2: no other byte was seen. */
static __always_inline bool may_be_preface(const struct flow *f)
{
	return f->protocol == PROTOCOL_HTTP && !f->requests && !(f->flags & FLOW_JOINED) &&
	       f->client_end == f->http1.request_end + f->http1.preface;
}

/* is_next reports whether new data of the client are in order. After a gap data are in order if the backend has acknowledged
 * all data before them. A retransmission may end with new data; only the beginning of a connection is read from there. */
static __always_inline bool is_next(const struct flow *f, const struct packet *pkt)
{
	if (may_be_preface(f) && !before(f->client_end, pkt->seq))
		return true;
	return pkt->seq == f->client_end || !before(f->acked, pkt->seq);
}

/* record_client_fin records a FIN if all data before it were sent in order. A FIN ahead of a gap counts when the backend has
 * acknowledged it: no data follow a FIN, so the acknowledgement ends there. */
static __always_inline void record_client_fin(struct flow *f, __u32 fin)
{
	if (fin == f->client_end) {
		__sync_fetch_and_or(&f->flags, FLOW_CLIENT_FIN);
	} else if (before(f->client_end, fin)) {
		f->client_fin = fin;
		__sync_fetch_and_or(&f->flags, FLOW_CLIENT_FIN_AHEAD);
	}
}

/* record_backend_fin records a FIN of the backend. in_order: the packet with the FIN left no gap. */
static __always_inline void record_backend_fin(struct flow *f, __u32 fin, bool in_order)
{
	if (in_order && fin == f->backend_end) {
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN);
	} else if (!before(fin, f->backend_end)) {
		f->backend_fin = fin;
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN_AHEAD);
	}
}

/* record_client_ack records what the client acknowledges, if it is later than before and not beyond what the backend has
 * sent. */
static __always_inline void record_client_ack(struct flow *f, const struct packet *pkt)
{
	if (!(pkt->flags & TCP_ACK) || !before(f->client_ack, pkt->ack) || before(f->backend_end + 1, pkt->ack))
		return;
	f->client_ack = pkt->ack;
	if (f->flags & FLOW_BACKEND_FIN_AHEAD && pkt->ack == f->backend_fin + 1)
		__sync_fetch_and_or(&f->flags, FLOW_BACKEND_FIN);
}

/* record_backend_ack records what the backend acknowledges, in the same way. */
static __always_inline void record_backend_ack(struct flow *f, const struct packet *pkt)
{
	if (!(pkt->flags & TCP_ACK) || !before(f->acked, pkt->ack) || before(f->client_max + 1, pkt->ack))
		return;
	f->acked = pkt->ack;
	if (f->flags & FLOW_CLIENT_FIN_AHEAD && pkt->ack == f->client_fin + 1)
		__sync_fetch_and_or(&f->flags, FLOW_CLIENT_FIN);
}

/* record_client_data and record_backend_data record how far a side has sent, within the maximum window. Data of the backend
 * must also acknowledge the client. */
static __always_inline void record_client_data(struct flow *f, const struct packet *pkt)
{
	__u32 end = pkt->seq + pkt->payload;

	if (pkt->payload && before(f->client_max, end) && end - f->acked < WINDOW_MAX)
		f->client_max = end;
}

static __always_inline void record_backend_data(struct flow *f, const struct packet *pkt)
{
	__u32 end = pkt->seq + pkt->payload;

	if (pkt->payload && before(f->backend_end, end) && end - f->client_ack < WINDOW_MAX && acknowledges_client(f, pkt))
		f->backend_end = end;
}
