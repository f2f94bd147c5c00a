/* Packets on their way to a backend. */
#pragma once

#include "cookie.h"
#include "flow.h"
#include "rewrite.h"

#define MSS_DEFAULT 536 /* RFC 9293, 3.7.1: what a caller that names none can take */
#define MSS_OFFERED 1400

static __always_inline bool lease_expired(const struct node_state *n, __u64 now)
{
	return now >= READ_ONCE(n->lease_until);
}

/* Which circuit a packet to this destination belongs to, in the direction in which the packet travels. Returns
 * REASON_FLOW and fills found, or why there is none. */
__noinline __u32 find_backend(struct __sk_buff *skb, const struct packet *pkt, struct backend *found)
{
	struct endpoint ep = { .direction = DIRECTION_OUTBOUND };
	__u32 entered = skb->ingress_ifindex;
	struct backend *b;

	if (!pkt || !found)
		return REASON_FOREIGN;
	ep.port_be = pkt->key.backend_port_be;

	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	if (entered && bpf_map_lookup_elem(&uplinks, &entered))
		ep.direction = DIRECTION_INBOUND;
	b = bpf_map_lookup_elem(&backends, &ep);
	/* On an interface's way in only the node's own addresses are behind it; others are seen on their way out. */
	if (b && (pkt->hook != HOOK_INGRESS || b->flags & BACKEND_HOST)) {
		*found = *b;
		return REASON_FLOW;
	}
	if (!b && ep.direction == DIRECTION_INBOUND) {
		ep.direction = DIRECTION_OUTBOUND;
		if (bpf_map_lookup_elem(&backends, &ep))
			return REASON_REMOTE;
	}
	return REASON_FOREIGN;
}

/* Tells the agent of a destination that only a CIDR names, at most once a second for each. */
__noinline int learn(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n, __u64 now)
{
	struct cidr_key key = { .prefix_len = 144 };
	struct endpoint ep = {};
	__u32 entered = skb->ingress_ifindex, *directions;
	struct event *e;
	__u64 *last;

	if (!n || !pkt)
		return 0;
	key.port_be = pkt->key.backend_port_be;
	ep.port_be = pkt->key.backend_port_be;
	__builtin_memcpy(key.addr, pkt->key.backend, 16);
	directions = bpf_map_lookup_elem(&cidrs, &key);
	if (!directions)
		return 0;
	if (entered && bpf_map_lookup_elem(&uplinks, &entered))
		ep.direction = DIRECTION_INBOUND;
	if (!(*directions & (1 << ep.direction)))
		return 0;
	__builtin_memcpy(ep.addr, pkt->key.backend, 16);
	last = bpf_map_lookup_elem(&learning, &ep);
	if (last && now - *last < 1000000000ULL)
		return 0;
	bpf_map_update_elem(&learning, &ep, &now, BPF_ANY);
	e = news(n, &pkt->key);
	if (!e)
		return 0;
	e->at = now;
	e->began = now;
	e->circuit = ep.direction;
	e->kind = EVENT_LEARN;
	tell(e);
	return 0;
}

static __always_inline bool exempt_source(const __u8 *client, const struct policy *p)
{
	struct source_key key = { .prefix_len = 160, .policy = p->id };

	if (!(p->flags & POLICY_EXEMPT_SOURCES))
		return false;
	__builtin_memcpy(key.addr, client, 16);
	return bpf_map_lookup_elem(&exempt_sources, &key);
}

__noinline bool exempt(struct __sk_buff *skb, const struct packet *pkt, const struct policy *p, const struct node_state *n,
			      __u32 backend_flags)
{
	if (!p || !n || !pkt)
		return false;
	/* A host process outside the pods' cgroups that talks to a pod of this node: the kubelet, checking it. */
	if (p->flags & POLICY_EXEMPT_NODE && backend_flags & BACKEND_LOCAL_POD && !skb->ingress_ifindex && n->kubepods &&
	    bpf_skb_ancestor_cgroup_id(skb, n->kubepods_level) != n->kubepods)
		return true;
	return exempt_source(pkt->key.client, p);
}

static __always_inline __u32 method4(const char *m)
{
	return (__u32)m[0] | (__u32)m[1] << 8 | (__u32)m[2] << 16 | (__u32)m[3] << 24;
}

#define IS(m) ((word & mask) == (method4(m) & mask))

enum method { METHOD_NONE, METHOD_OTHER, METHOD_HEAD, METHOD_CONNECT };

/* method reads the first bytes of the payload. One to three bytes are taken by what they could become. */
static __always_inline enum method method(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 at = pkt->l4 + pkt->tcp_len, word = 0, mask = 0xffffffff;
	long err;

	switch (pkt->payload) {
	case 0:
		return METHOD_NONE;
	case 1:
		mask = 0xff;
		err = bpf_skb_load_bytes(skb, at, &word, 1);
		break;
	case 2:
		mask = 0xffff;
		err = bpf_skb_load_bytes(skb, at, &word, 2);
		break;
	case 3:
		mask = 0xffffff;
		err = bpf_skb_load_bytes(skb, at, &word, 3);
		break;
	default:
		err = bpf_skb_load_bytes(skb, at, &word, 4);
	}
	if (err)
		return METHOD_NONE;
	if (IS("GET ") || IS("POST") || IS("PUT ") || IS("DELE") || IS("PATC") || IS("OPTI"))
		return METHOD_OTHER;
	if (IS("HEAD"))
		return METHOD_HEAD;
	if (IS("CONN"))
		return METHOD_CONNECT;
	/* TRACE, QUERY, PURGE, and those of WebDAV. PRI, with which HTTP/2 begins, is not among them. */
	if (IS("TRAC") || IS("QUER") || IS("PURG") || IS("PROP") || IS("REPO") || IS("MKCO") || IS("MKCA") || IS("COPY") ||
	    IS("MOVE") || IS("LOCK") || IS("UNLO") || IS("SEAR") || IS("ACL ") || IS("BIND"))
		return METHOD_OTHER;
	return METHOD_NONE;
}

static __always_inline __u64 seconds_until(__u64 until, __u64 now)
{
	return until > now ? (until - now + 999999999) / 1000000000 : 1;
}

static __always_inline void count_refusal(struct circuit *c, __u32 reason, enum reject how)
{
	__u32 i = reason - REASON_OPEN;

	if (i < REFUSALS && how < REJECT_MAX)
		__sync_fetch_and_add(&c->refused[i][how], 1);
}

static __always_inline void count_would(struct circuit *c, __u32 reason)
{
	__u32 i = reason - REASON_OPEN;

	if (i < REFUSALS)
		__sync_fetch_and_add(&c->would[i], 1);
}

static __always_inline __u32 answer_of(const struct policy *p, __u32 reason)
{
	__u32 i = reason - REASON_OPEN;

	return i < REFUSALS ? p->answers[i] : ANSWER_NONE;
}

static __always_inline __u64 sent(long err, enum action action, __u32 reason)
{
	return err ? decision(ACTION_DROP, REASON_ERROR) : decision(action, reason);
}

/* A new connection is refused: nothing of it goes on to the backend, and nothing is stored. */
__noinline __u64 refuse_syn(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	struct node_state *n = the_node();
	struct circuit *c;
	__u32 told = reason;
	struct segment s = { .back = 1, .answer = ANSWER_NONE };
	struct tcp_options o = {};
	struct policy *p;
	struct answer *a;
	__u32 index;

	if (!n || !pkt)
		return 0;
	c = circuit_of(pkt->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	/* Callers are told of a full table as of a limit. */
	if (reason == REASON_TABLE_FULL)
		reason = REASON_CONNECTION_LIMIT;
	if (p->reject == REJECT_DROP) {
		count_refusal(c, reason, REJECT_DROP);
		return decision(ACTION_DROP, told);
	}
	if (p->reject == REJECT_RESPOND) {
		index = answer_of(p, reason);
		a = answer_at(index);
		tcp_options(skb, pkt, &o);
		if (a && a->len <= (o.mss ?: MSS_DEFAULT)) {
			/* Counted when its request is answered. */
			s.seq = cookie(n, &pkt->key) | ((reason - REASON_OPEN) & COOKIE_REASON);
			s.ack = pkt->seq + 1;
			s.flags = TCP_SYN | TCP_ACK;
			s.mss = MSS_OFFERED;
			return sent(rewrite(skb, pkt, &s), ACTION_RESPOND, told);
		}
	}
	count_refusal(c, reason, REJECT_RESET);
	s.ack = pkt->seq + 1 + pkt->payload;
	s.flags = TCP_RST | TCP_ACK;
	return sent(rewrite(skb, pkt, &s), ACTION_RESET, told);
}

/* The caller's timestamps go back swapped: what it echoed last is the newest that its backend sent. */
static __always_inline void swap_ts(struct segment *s, const struct tcp_options *o)
{
	s->has_ts = o->has_ts;
	s->ts_val = o->ts_ecr;
	s->ts_ecr = o->ts_val;
}

static __always_inline void echo_ts(struct __sk_buff *skb, const struct packet *pkt, struct segment *s)
{
	struct tcp_options o = {};

	tcp_options(skb, pkt, &o);
	swap_ts(s, &o);
}

/* reply turns the packet of a caller that has a connection into s.answer, or into a reset when there is none, and
 * remembers what was said so that the rest of the request can be thrown away. */
__noinline __u64 reply(struct __sk_buff *skb, const struct packet *pkt, struct segment *s, __u32 reason, __u64 until)
{
	struct answered_flow done = { .until = until };
	struct answer *a;

	if (!pkt || !s)
		return 0;
	done.start = pkt->ack;
	done.answer = s->answer;
	done.head = s->head;
	a = answer_at(s->answer);
	s->back = 1;
	s->seq = pkt->ack;
	s->ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (!a) {
		s->answer = ANSWER_NONE;
		s->flags = TCP_RST | TCP_ACK;
		return sent(rewrite(skb, pkt, s), ACTION_RESET, reason);
	}
	done.next = s->seq + (s->head ? a->head_len : a->len) + 1;
	remember_answered(&pkt->key, &done);
	s->flags = TCP_PSH | TCP_ACK | TCP_FIN;
	return sent(rewrite(skb, pkt, s), ACTION_RESPOND, reason);
}

/* A request on an open connection is refused: the backend's side is reset, the caller gets the answer or a reset. The
 * flow is forgotten first, for both packets pass these hooks again. */
__noinline __u64 refuse_request(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 reason)
{
	struct segment s = { .flags = TCP_RST | TCP_ACK, .answer = ANSWER_NONE };
	__u64 now = bpf_ktime_get_ns();
	__u32 mss, answer = ANSWER_NONE;
	struct tcp_options o = {};
	struct circuit *c;
	struct policy *p;
	struct answer *a;

	if (!f || !pkt)
		return 0;
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return 0;
	if (p->reject == REJECT_DROP) {
		count_refusal(c, reason, REJECT_DROP);
		return decision(ACTION_DROP, reason);
	}
	mss = f->mss;
	close_flow(&pkt->key, f, RESULT_ABORTED, now);
	if (p->reject == REJECT_RESPOND)
		answer = answer_of(p, reason);
	a = answer_at(answer);
	tcp_options(skb, pkt, &o);
	/* An MSS counts the options in (RFC 6691). */
	if (!a || (mss && a->len + (o.has_ts ? 12 : 0) > mss))
		answer = ANSWER_NONE;
	count_refusal(c, reason, answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND);
	s.seq = pkt->seq;
	s.ack = pkt->ack;
	if (rewrite(skb, pkt, &s) || bpf_clone_redirect(skb, skb->ifindex, pkt->hook == HOOK_INGRESS ? BPF_F_INGRESS : 0))
		return decision(ACTION_DROP, REASON_ERROR);
	swap_ts(&s, &o);
	s.answer = answer;
	s.head = pkt->head;
	s.retry = seconds_until(pkt->until, now);
	return reply(skb, pkt, &s, reason, pkt->until);
}

/* What decides whether a connection is in the share that a ramp admits. The same for its SYN and for each of its
 * requests: drawn anew for each, a share of a share would pass. */
static __always_inline __u32 draw(const struct node_state *n, struct circuit *c, const struct flow_key *key)
{
	return verdict_of(c)->ramp_over ? cookie(n, key) >> 8 : 0;
}

/* override lets pass what the circuit would refuse when nobody may be refused: the lease has run out, or the circuit
 * is only monitored. What passes so is not judged. */
static __always_inline void override_refusal(struct circuit *c, struct node_state *n, struct admission *adm, __u64 now, bool count)
{
	if (!is_refusal(adm->reason))
		return;
	if (lease_expired(n, now)) {
		if (count)
			__sync_fetch_and_add(&n->lease_expired, 1);
		adm->reason = REASON_LEASE_EXPIRED;
	} else if (monitored(c)) {
		if (count)
			count_would(c, adm->reason);
		adm->reason = REASON_MONITORED;
	}
}

/* limit refuses for a limit, unless the circuit is only monitored. True if refused. */
static __always_inline bool limit(struct circuit *c, struct admission *adm, __u32 reason, bool count)
{
	if (monitored(c)) {
		if (count && adm->reason != REASON_MONITORED)
			count_would(c, reason);
		adm->reason = REASON_MONITORED;
		return false;
	}
	adm->reason = reason;
	adm->until = 0;
	return true;
}

/* no_permit says that there is none for a probe. True if that refuses it. */
static __always_inline bool no_permit(struct circuit *c, struct node_state *n, struct admission *adm, __u64 now, bool count)
{
	bool counted = adm->reason == REASON_MONITORED;

	adm->reason = REASON_HALF_OPEN;
	adm->generation = 0;
	override_refusal(c, n, adm, now, count && !counted);
	return is_refusal(adm->reason);
}

/* A SYN that begins a connection. */
__noinline __u64 new_connection(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n)
{
	struct circuit *c;
	struct tcp_options o = {};
	struct admission adm = {};
	struct flow f = {};
	struct policy *p;
	bool tcp, probe, held, counted;
	__u64 now;

	if (!n || !pkt)
		return 0;
	c = circuit_of(pkt->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	now = bpf_ktime_get_ns();
	tcp = p->protocol == PROTOCOL_TCP;
	ask_circuit(c, now, draw(n, c, &pkt->key), &adm);
	probe = adm.reason == REASON_PROBE;
	/* With http what is turned away is a request, and counted when it comes. */
	override_refusal(c, n, &adm, now, tcp);
	if (is_refusal(adm.reason))
		return decision(TODO_REFUSE_SYN, adm.reason);
	counted = tcp && adm.reason == REASON_MONITORED;

	if (!reserve(&c->connections, p->max_connections)) {
		counted = counted || adm.reason != REASON_MONITORED;
		if (limit(c, &adm, REASON_CONNECTION_LIMIT, true))
			return decision(TODO_REFUSE_SYN, adm.reason);
		__sync_fetch_and_add(&c->connections, 1);
	}
	if (tcp && !take_rate(c, p, now)) {
		counted = true;
		if (limit(c, &adm, REASON_RATE_LIMIT, true)) {
			__sync_fetch_and_add(&c->connections, -1);
			return decision(TODO_REFUSE_SYN, adm.reason);
		}
	}
	if (probe && !permit(c, &adm, now)) {
		probe = false;
		if (no_permit(c, n, &adm, now, tcp)) {
			__sync_fetch_and_add(&c->connections, -1);
			if (tcp)
				return_rate(c, p);
			return decision(TODO_REFUSE_SYN, adm.reason);
		}
		counted = counted || tcp;
	}

	if (!tcp && p->reject == REJECT_RESPOND)
		tcp_options(skb, pkt, &o);
	f.turn = PHASE_SYN;
	f.started = now;
	f.seen = now;
	f.circuit = pkt->circuit;
	f.entered = skb->ingress_ifindex;
	f.leaves = skb->ifindex;
	f.generation = adm.generation;
	f.isn = pkt->seq;
	f.client_end = pkt->seq + 1;
	f.acked = pkt->seq + 1;
	f.mss = o.mss;
	f.flags = (probe ? FLOW_PERMIT | (tcp ? 0 : FLOW_RESERVED) : 0) | (counted ? FLOW_COUNTED : 0);
	held = probe || p->max_connections;
	if (!open_flow(n, &pkt->key, &f, held)) {
		__sync_fetch_and_add(&c->connections, -1);
		if (tcp)
			return_rate(c, p);
		if (probe)
			return_permit(c, adm.generation, now, true);
		if (!held)
			return decision(ACTION_PASS, REASON_TABLE_FULL);
		return decision(TODO_REFUSE_SYN, REASON_TABLE_FULL);
	}
	if (probe) {
		__sync_fetch_and_add(&c->probes, 1);
		tell_permit(n, &pkt->key, pkt->circuit, adm.generation, now, EVENT_PROBE);
	}
	if (tcp)
		__sync_fetch_and_add(&c->admitted, 1);
	return decision(ACTION_PASS, adm.reason);
}

/* A request on an open connection. */
__noinline __u64 new_request(struct packet *pkt, struct node_state *n, struct flow *f, __u32 kind)
{
	struct admission adm = {};
	struct circuit *c;
	struct policy *p;
	bool inherited = false, probe, count;
	__u64 now, turn;
	__u32 flags;

	if (!f || !n || !pkt)
		return 0;
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	turn = READ_ONCE(f->turn);
	if (phase_of(turn) != PHASE_IDLE)
		return decision(ACTION_PASS, REASON_FLOW);
	now = bpf_ktime_get_ns();

	if (f->flags & FLOW_RESERVED) {
		flags = __sync_fetch_and_and(&f->flags, ~FLOW_RESERVED);
		inherited = flags & FLOW_RESERVED && f->generation == generation_of(verdict_of(c), now);
		/* A permit of an earlier generation went with its verdict. */
		if (!inherited)
			__sync_fetch_and_and(&f->flags, ~FLOW_PERMIT);
	}
	if (inherited) {
		adm.reason = REASON_PROBE;
		adm.generation = f->generation;
	} else {
		ask_circuit(c, now, draw(n, c, &pkt->key), &adm);
	}
	probe = adm.reason == REASON_PROBE;
	count = !(f->flags & FLOW_COUNTED);
	override_refusal(c, n, &adm, now, count);
	if (is_refusal(adm.reason)) {
		if (p->existing)
			goto refuse;
		adm.reason = REASON_ADMITTED;
		adm.generation = 0;
	}

	if (p->max_requests_per_connection && f->requests >= p->max_requests_per_connection &&
	    limit(c, &adm, REASON_CONNECTION_LIMIT, count))
		goto refuse;
	if (!reserve(&c->requests, p->max_requests)) {
		if (limit(c, &adm, REASON_REQUEST_LIMIT, count))
			goto refuse;
		__sync_fetch_and_add(&c->requests, 1);
	}
	if (!take_rate(c, p, now)) {
		__u64 next = READ_ONCE(c->rate_next);

		if (limit(c, &adm, REASON_RATE_LIMIT, count)) {
			__sync_fetch_and_add(&c->requests, -1);
			adm.until = next - p->rate_burst;
			goto refuse;
		}
	}
	if (probe && !inherited && !permit(c, &adm, now)) {
		probe = false;
		if (!no_permit(c, n, &adm, now, count)) {
			/* Nobody may be refused. */
		} else if (p->existing) {
			__sync_fetch_and_add(&c->requests, -1);
			return_rate(c, p);
			goto refuse;
		} else {
			adm.reason = REASON_ADMITTED;
		}
	}

	f->started = now;
	f->generation = adm.generation;
	f->expected = pkt->ack;
	f->head_len = 0;
	f->tail_len = 0;
	f->requests++;
	flags = (probe ? FLOW_PERMIT : 0) | (kind == METHOD_CONNECT ? FLOW_CONNECT : 0);
	__sync_fetch_and_and(&f->flags, ~(FLOW_INTERIM | FLOW_CONNECT | FLOW_COUNTED));
	if (flags)
		__sync_fetch_and_or(&f->flags, flags);
	f->client_end = pkt->seq + pkt->payload;
	if (!move(f, turn, PHASE_WAIT)) {
		/* Somebody just closed it. */
		__sync_fetch_and_add(&c->requests, -1);
		if (probe && !inherited)
			return_permit(c, adm.generation, now, true);
		return decision(ACTION_PASS, REASON_FLOW);
	}
	__sync_fetch_and_add(&c->admitted, 1);
	if (probe && !inherited) {
		__sync_fetch_and_add(&c->probes, 1);
		tell_permit(n, &pkt->key, f->circuit, adm.generation, now, EVENT_PROBE);
	}
	return decision(ACTION_PASS, adm.reason);

refuse:
	/* close_flow gives an inherited permit back, and says so. */
	if (inherited)
		__sync_fetch_and_or(&f->flags, FLOW_RESERVED);
	pkt->head = kind == METHOD_HEAD;
	pkt->until = adm.until;
	return decision(TODO_REFUSE_REQUEST, adm.reason);
}

/* More of an open connection of a policy that does not look into it. It needs no permit, so half-open refuses none. */
static __always_inline __u64 open_connection(struct circuit *c, struct node_state *n, struct flow *f)
{
	__u64 now = bpf_ktime_get_ns();
	struct admission adm = { .reason = refuses_all(verdict_of(c), now) };
	bool counted = f->flags & FLOW_COUNTED;

	if (!adm.reason || (counted && monitored(c)))
		return decision(ACTION_PASS, REASON_FLOW);
	override_refusal(c, n, &adm, now, !counted);
	if (is_refusal(adm.reason))
		return decision(TODO_REFUSE_REQUEST, adm.reason);
	if (!counted)
		__sync_fetch_and_or(&f->flags, FLOW_COUNTED);
	return decision(ACTION_PASS, adm.reason);
}

/* A packet of a followed connection, SYNs excepted. */
__noinline __u64 of_flow(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow *f)
{
	__u64 turn, now = bpf_ktime_get_coarse_ns(), d = decision(ACTION_PASS, REASON_FLOW);
	struct circuit *c;
	struct policy *p;
	__u32 end;

	if (!f || !pkt || !n)
		return 0;
	f->seen = now;
	if (pkt->flags & TCP_RST) {
		close_flow(&pkt->key, f, if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
		return d;
	}
	turn = READ_ONCE(f->turn);
	if ((phase_of(turn) == PHASE_SYN || phase_of(turn) == PHASE_EXPIRED) && pkt->flags & TCP_ACK) {
		/* It has its SYN-ACK, by a way that no hook here saw. */
		established(&pkt->key, f, turn);
		turn = READ_ONCE(f->turn);
	}
	end = pkt->seq + pkt->payload;
	/* What ends before is a retransmission, or was seen on another interface. */
	if (pkt->payload && before(f->client_end, end)) {
		/* After a gap only what the backend has acknowledged up to here is in order. */
		if (phase_of(turn) == PHASE_IDLE && pkt->seq != f->client_end && before(f->acked, pkt->seq))
			return d;
		c = circuit_of(f->circuit);
		p = c ? policy_of(c) : NULL;
		if (p && p->protocol == PROTOCOL_HTTP) {
			if (phase_of(turn) == PHASE_IDLE) {
				enum method m = method(skb, pkt);

				if (m != METHOD_NONE)
					d = new_request(pkt, n, f, m);
			}
		} else if (p && p->existing) {
			d = open_connection(c, n, f);
		}
		if (d >> 32 != ACTION_PASS)
			return d;
		f->client_end = end;
	}
	if (pkt->flags & TCP_FIN) {
		__sync_fetch_and_or(&f->flags, FLOW_CLIENT_FIN);
		close_if_finished(&pkt->key, f);
	}
	return d;
}

/* A packet of a connection that the kernel answered. */
__noinline __u64 of_answered(struct __sk_buff *skb, const struct packet *pkt)
{
	struct segment s = { .answer = ANSWER_NONE };
	struct answered_flow *done;

	if (!pkt)
		return 0;
	done = find_answered(&pkt->key);
	if (!done)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (pkt->flags & TCP_RST) {
		forget_answered(&pkt->key);
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	}
	if (!pkt->payload && !(pkt->flags & TCP_FIN))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	echo_ts(skb, pkt, &s);
	s.back = 1;
	s.ack = pkt->seq + pkt->payload + !!(pkt->flags & TCP_FIN);
	if (before(pkt->ack, done->next) && done->answer != ANSWER_NONE) {
		/* The answer may be lost, and what it acknowledged is never sent again: so it goes with every ACK. */
		s.seq = done->start;
		s.answer = done->answer;
		s.head = done->head;
		s.retry = seconds_until(done->until, bpf_ktime_get_ns());
		s.flags = TCP_PSH | TCP_ACK | TCP_FIN;
	} else {
		s.seq = done->next;
		s.flags = TCP_ACK;
	}
	return sent(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
}

/* A packet with our own sequence number acknowledged: its SYN was answered from here. reason: why it was. */
__noinline __u64 of_cookie(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	struct circuit *c;
	struct segment s = { .answer = ANSWER_NONE };
	struct answered_flow done = {};
	struct verdict *v;
	struct policy *p;
	enum method m;
	__u64 now, until = 0;

	if (!pkt || !is_refusal(reason))
		return 0;
	c = circuit_of(pkt->circuit);
	if (!c)
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	if (pkt->flags & TCP_RST || (!pkt->payload && !(pkt->flags & TCP_FIN)))
		return decision(ACTION_SWALLOW, REASON_ANSWERED);
	p = policy_of(c);
	if (!p)
		return 0;
	now = bpf_ktime_get_ns();
	if (!pkt->payload) {
		/* It closes without having asked. */
		echo_ts(skb, pkt, &s);
		s.back = 1;
		s.seq = pkt->ack;
		s.ack = pkt->seq + 1;
		s.flags = TCP_ACK | TCP_FIN;
		done.start = pkt->ack;
		done.next = pkt->ack + 1;
		done.answer = ANSWER_NONE;
		remember_answered(&pkt->key, &done);
		return sent(rewrite(skb, pkt, &s), ACTION_ACK, REASON_ANSWERED);
	}
	v = verdict_of(c);
	if (v->kind == VERDICT_OPEN || v->kind == VERDICT_FORCED_OPEN)
		until = v->until;
	m = method(skb, pkt);
	if (m != METHOD_NONE)
		s.answer = answer_of(p, reason);
	s.head = m == METHOD_HEAD;
	s.retry = seconds_until(until, now);
	count_refusal(c, reason, s.answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND);
	echo_ts(skb, pkt, &s);
	return reply(skb, pkt, &s, reason, until);
}

/* A packet of no followed connection, SYNs excepted. */
__noinline __u64 stray(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct flow init = {};
	struct backend b = {};
	struct circuit *c;
	struct policy *p;
	__u32 k, reason;

	if (!n || !pkt)
		return 0;
	if (find_answered(&pkt->key))
		return decision(TODO_OF_ANSWERED, 0);
	reason = find_backend(skb, pkt, &b);
	if (reason != REASON_FLOW)
		return decision(ACTION_PASS, reason);
	pkt->circuit = b.circuit;
	c = circuit_of(b.circuit);
	p = c ? policy_of(c) : NULL;
	if (!p)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (p->protocol == PROTOCOL_HTTP && pkt->flags & TCP_ACK) {
		k = pkt->ack - 1;
		if ((k & ~COOKIE_REASON) == cookie(n, &pkt->key) && (k & COOKIE_REASON) < REFUSALS)
			return decision(TODO_OF_COOKIE, REASON_OPEN + (k & COOKIE_REASON));
	}
	/* A bare ACK or FIN may be the last of a connection that was just forgotten: it must not bring it back. */
	if (!pkt->payload || pkt->flags & (TCP_RST | TCP_FIN | TCP_SYN))
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (exempt(skb, pkt, p, n, b.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	init.turn = PHASE_IDLE;
	init.seen = bpf_ktime_get_coarse_ns();
	init.circuit = b.circuit;
	init.entered = skb->ingress_ifindex;
	init.leaves = skb->ifindex;
	init.client_end = pkt->seq;
	init.acked = pkt->seq;
	init.flags = FLOW_JOINED;
	if (!open_flow(n, &pkt->key, &init, false))
		return decision(ACTION_PASS, REASON_TABLE_FULL);
	__sync_fetch_and_add(&c->connections, 1);
	return decision(TODO_OF_FLOW, 0);
}

/* A connection whose time ran out gave its place back. While others fill all places it may not go on. */
static __always_inline bool has_place(const struct flow *f)
{
	struct circuit *c;
	struct policy *p;

	if (phase_of(READ_ONCE(f->turn)) != PHASE_EXPIRED)
		return true;
	c = circuit_of(f->circuit);
	p = c ? policy_of(c) : NULL;
	return !p || !p->max_connections || READ_ONCE(c->connections) < p->max_connections;
}

__noinline __u64 syn(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct backend b = {};
	struct circuit *c;
	struct flow *f;
	__u32 reason;

	if (!n || !pkt)
		return 0;
	f = find_flow(&pkt->key);
	if (f) {
		if (f->isn == pkt->seq && !(f->flags & FLOW_JOINED) && has_place(f)) {
			f->seen = bpf_ktime_get_coarse_ns();
			return decision(ACTION_PASS, REASON_FLOW); /* a retransmission: admitted already */
		}
		/* The ports are used again: the old connection is over. Or it is asked anew whether this one may be. */
		close_flow(&pkt->key, f, if_seen(f, RESULT_ABORTED), bpf_ktime_get_ns());
	}
	/* Also where the new connection is nobody's business any more. */
	forget_answered(&pkt->key);
	reason = find_backend(skb, pkt, &b);
	if (reason != REASON_FLOW) {
		if (reason == REASON_FOREIGN)
			learn(skb, pkt, n, bpf_ktime_get_ns());
		return decision(ACTION_PASS, reason);
	}
	c = circuit_of(b.circuit);
	if (!c)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (exempt(skb, pkt, policy_of(c), n, b.flags))
		return decision(ACTION_PASS, REASON_EXEMPT);
	pkt->circuit = b.circuit;
	return new_connection(skb, pkt, n);
}

static __always_inline __u64 from_client(struct __sk_buff *skb, struct packet *pkt, struct node_state *n)
{
	struct flow *f = NULL;
	__u64 d;

	if (is_syn(pkt)) {
		d = syn(skb, pkt, n);
		return d >> 32 == TODO_REFUSE_SYN ? refuse_syn(skb, pkt, d) : d;
	}
	f = find_flow(&pkt->key);
	if (!f) {
		d = stray(skb, pkt, n);
		switch (d >> 32) {
		case TODO_OF_ANSWERED:
			return of_answered(skb, pkt);
		case TODO_OF_COOKIE:
			return of_cookie(skb, pkt, d);
		case TODO_OF_FLOW:
			f = find_flow(&pkt->key);
			break;
		default:
			return d;
		}
		if (!f)
			return decision(ACTION_PASS, REASON_UNTRACKED);
	}
	d = of_flow(skb, pkt, n, f);
	return d >> 32 == TODO_REFUSE_REQUEST ? refuse_request(skb, pkt, f, d) : d;
}
