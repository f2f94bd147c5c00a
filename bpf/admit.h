/* May a new connection or a new request pass? The circuit, the lease, the limits and the rate are asked in turn; what is
 * rejected takes nothing. */
#pragma once

#include "reject.h"

static __always_inline bool lease_expired(const struct node_state *n, __u64 now)
{
	return now >= READ_ONCE(n->lease_until);
}

/* surely_rejected says why a circuit rejects every new connection now, or REASON_FLOW. */
static __always_inline __u32 surely_rejected(struct circuit *c, const struct node_state *n, __u64 now)
{
	struct verdict *v = verdict_of(c);

	if (lease_expired(n, now) || v->flags & VERDICT_MONITOR)
		return REASON_FLOW;
	return rejects_all(v, now) ?: REASON_FLOW;
}

/* What decides whether a connection is in the share that a ramp admits. The same for its SYN and for each of its
 * requests: drawn anew for each, a share of a share would pass. */
static __always_inline __u32 ramp_draw(const struct node_state *n, struct circuit *c, const struct flow_key *key)
{
	return verdict_of(c)->ramp_over ? (__u32)tuple_hash(n, key) >> 8 : 0;
}

/* override lets pass what the circuit would reject when nobody may be rejected: the lease has run out, or the circuit
 * is only monitored. What passes so is not judged. */
static __always_inline void override_rejection(struct circuit *c, struct node_state *n, struct admission *adm, __u64 now, bool count)
{
	if (!is_rejection(adm->reason))
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

/* over_limit rejects for a limit, unless the circuit is only monitored, or disabled: that admits all. True if rejected. */
static __always_inline bool over_limit(struct circuit *c, struct admission *adm, __u32 reason, bool count)
{
	if (monitored(c)) {
		if (count && adm->reason != REASON_MONITORED)
			count_would(c, reason);
		adm->reason = REASON_MONITORED;
		return false;
	}
	if (verdict_of(c)->kind == VERDICT_DISABLED)
		return false;
	adm->reason = reason;
	adm->until = 0;
	return true;
}

/* reject_probe rejects a probe that got no permit, unless nobody may be rejected. True if rejected. */
static __always_inline bool reject_probe(struct circuit *c, struct node_state *n, struct admission *adm, __u64 now, bool count)
{
	bool counted = adm->reason == REASON_MONITORED;

	adm->reason = REASON_HALF_OPEN;
	adm->generation = 0;
	override_rejection(c, n, adm, now, count && !counted);
	return is_rejection(adm->reason);
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
	circuit_admit(c, now, ramp_draw(n, c, &pkt->key), &adm);
	probe = adm.reason == REASON_PROBE;
	/* With http what is rejected is a request, and counted when it comes. */
	override_rejection(c, n, &adm, now, tcp);
	if (is_rejection(adm.reason))
		return decision(TODO_REJECT_SYN, adm.reason);
	counted = tcp && adm.reason == REASON_MONITORED;

	if (!reserve(&c->connections, p->max_connections)) {
		counted = counted || adm.reason != REASON_MONITORED;
		if (over_limit(c, &adm, REASON_CONNECTION_LIMIT, true))
			return decision(TODO_REJECT_SYN, adm.reason);
		__sync_fetch_and_add(&c->connections, 1);
	}
	if (tcp && !take_rate(c, p, now)) {
		counted = true;
		if (over_limit(c, &adm, REASON_RATE_LIMIT, true)) {
			__sync_fetch_and_add(&c->connections, -1);
			return decision(TODO_REJECT_SYN, adm.reason);
		}
	}
	if (probe && !acquire_permit(c, &adm, now)) {
		probe = false;
		if (reject_probe(c, n, &adm, now, tcp)) {
			__sync_fetch_and_add(&c->connections, -1);
			if (tcp)
				release_rate(c, p);
			return decision(TODO_REJECT_SYN, adm.reason);
		}
		counted = counted || tcp;
	}

	if (!tcp && p->reject == REJECT_RESPOND)
		tcp_options(skb, pkt, &o);
	f.turn = PHASE_SYN;
	f.started = now;
	f.sent = now;
	f.seen = now;
	f.circuit = pkt->circuit;
	f.entered = skb->ingress_ifindex;
	f.leaves = skb->ifindex;
	f.generation = adm.generation;
	f.isn = pkt->seq;
	f.client_end = pkt->seq + 1;
	f.client_max = pkt->seq + 1 + pkt->payload;
	f.acked = pkt->seq + 1;
	f.request_end = pkt->seq + 1;
	f.request_framing = FRAMING_LENGTH;
	f.mss = o.mss;
	f.flags = (probe ? FLOW_PERMIT | (tcp ? 0 : FLOW_RESERVED) : 0) | (counted ? FLOW_COUNTED : 0);
	held = probe || p->max_connections;
	if (!create_flow(n, &pkt->key, &f, held)) {
		__sync_fetch_and_add(&c->connections, -1);
		if (tcp)
			release_rate(c, p);
		if (probe)
			release_permit(c, adm.generation, now, true);
		if (!held)
			return decision(ACTION_PASS, REASON_TABLE_FULL);
		return decision(TODO_REJECT_SYN, REASON_TABLE_FULL);
	}
	if (probe) {
		__sync_fetch_and_add(&c->probes, 1);
		event_permit(n, &pkt->key, pkt->circuit, adm.generation, now, EVENT_PROBE);
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
		circuit_admit(c, now, ramp_draw(n, c, &pkt->key), &adm);
	}
	probe = adm.reason == REASON_PROBE;
	count = !(f->flags & FLOW_COUNTED);
	override_rejection(c, n, &adm, now, count);
	if (is_rejection(adm.reason)) {
		if (p->existing)
			goto reject;
		adm.reason = REASON_ADMITTED;
		adm.generation = 0;
	}

	if (p->max_requests_per_connection && f->requests >= p->max_requests_per_connection &&
	    over_limit(c, &adm, REASON_CONNECTION_LIMIT, count))
		goto reject;
	if (!reserve(&c->requests, p->max_requests)) {
		if (over_limit(c, &adm, REASON_REQUEST_LIMIT, count))
			goto reject;
		__sync_fetch_and_add(&c->requests, 1);
	}
	if (!take_rate(c, p, now)) {
		__u64 next = READ_ONCE(c->rate_next);

		if (over_limit(c, &adm, REASON_RATE_LIMIT, count)) {
			__sync_fetch_and_add(&c->requests, -1);
			adm.until = next - p->rate_burst;
			goto reject;
		}
	}
	if (probe && !inherited && !acquire_permit(c, &adm, now)) {
		probe = false;
		if (!reject_probe(c, n, &adm, now, count)) {
			/* Nobody may be rejected. */
		} else if (p->existing) {
			__sync_fetch_and_add(&c->requests, -1);
			release_rate(c, p);
			goto reject;
		} else {
			adm.reason = REASON_ADMITTED;
		}
	}

	f->started = now;
	f->sent = now;
	f->generation = adm.generation;
	/* The response comes after the one before, of which the client need not have all. */
	f->expected = pkt->ack;
	if (f->response_framing != FRAMING_UNKNOWN && before(pkt->ack, f->response_end))
		f->expected = f->response_end;
	f->response_framing = FRAMING_UNKNOWN;
	f->head_len = 0;
	f->line = LINE_INSIDE;
	f->request_start = pkt->seq + pkt->skip;
	f->requests++;
	flags = (probe ? FLOW_PERMIT : 0) | (kind == METHOD_CONNECT ? FLOW_CONNECT : 0) | (kind == METHOD_HEAD ? FLOW_HEAD : 0);
	if (f->flags & FLOW_BACKEND_FIN)
		flags |= FLOW_RACED;
	__sync_fetch_and_and(&f->flags, ~(FLOW_INTERIM | FLOW_CONNECT | FLOW_HEAD | FLOW_DOUBT | FLOW_RACED | FLOW_COUNTED));
	if (flags)
		__sync_fetch_and_or(&f->flags, flags);
	f->client_end = pkt->seq + pkt->payload;
	if (!set_phase(f, turn, PHASE_WAIT)) {
		/* Somebody just closed it. */
		__sync_fetch_and_add(&c->requests, -1);
		if (probe && !inherited)
			release_permit(c, adm.generation, now, true);
		return decision(ACTION_PASS, REASON_FLOW);
	}
	__sync_fetch_and_add(&c->admitted, 1);
	if (probe && !inherited) {
		__sync_fetch_and_add(&c->probes, 1);
		event_permit(n, &pkt->key, f->circuit, adm.generation, now, EVENT_PROBE);
	}
	return decision(ACTION_PASS, adm.reason);

reject:
	/* close_flow gives an inherited permit back, and says so. */
	if (inherited)
		__sync_fetch_and_or(&f->flags, FLOW_RESERVED);
	pkt->head = kind == METHOD_HEAD;
	pkt->until = adm.until;
	return decision(TODO_REJECT_REQUEST, adm.reason);
}

/* More of an open connection of a policy that does not look into it. It needs no permit, so half-open rejects none. */
static __always_inline __u64 existing_connection(struct circuit *c, struct node_state *n, struct flow *f)
{
	__u64 now = bpf_ktime_get_ns();
	struct admission adm = { .reason = rejects_all(verdict_of(c), now) };
	bool counted = f->flags & FLOW_COUNTED;

	if (!adm.reason || (counted && monitored(c)))
		return decision(ACTION_PASS, REASON_FLOW);
	override_rejection(c, n, &adm, now, !counted);
	if (is_rejection(adm.reason))
		return decision(TODO_REJECT_REQUEST, adm.reason);
	if (!counted)
		__sync_fetch_and_or(&f->flags, FLOW_COUNTED);
	return decision(ACTION_PASS, adm.reason);
}
