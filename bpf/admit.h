/* Admission of connections and requests: by the circuit, the lease, the limits and the rate, in this order. A rejected
 * connection or request holds no resources. */
#pragma once

#include "cookie.h"
#include "flow.h"
#include "headers.h"
#include "options.h"
#include "packet.h"
#include "rejection.h"
#include "target.h"

/* ramp_draw returns the random number that a ramp compares with its share. It is constant for a connection: independent draws
 * for its SYN and its requests would admit a share of a share. */
static __always_inline __u32 ramp_draw(const struct node_state *n, struct circuit *c, const struct flow_key *key)
{
	return verdict_of(c)->ramp_over ? (__u32)tuple_hash(n, key) >> 8 : 0;
}

/* Resources that an admission has taken, for release when a later step rejects it. */
struct grant {
	struct lookup to;
	__u64 now;
	__u32 generation;
	bool connection; /* counted in target.connections */
	bool request; /* counted in circuit.requests */
	bool rate;
	bool permit;
};

static __always_inline void release_grant(const struct grant *g)
{
	struct circuit *c = g->to.circuit;

	if (g->connection)
		__sync_fetch_and_add(&g->to.target->connections, -1);
	if (g->request)
		__sync_fetch_and_add(&c->requests, -1);
	if (g->rate)
		release_rate(g->to.target, g->to.policy);
	if (g->permit)
		release_permit(c, g->generation, g->now, true);
}

/* override_rejection turns a rejection into an admission if the lease has expired or the circuit is only monitored. The outcome
 * of such a request is not judged. */
static __always_inline void override_rejection(struct circuit *c, struct node_state *n, struct admission *adm, __u64 now, bool count)
{
	if (!is_rejection(adm->reason))
		return;
	if (lease_expired(n, now)) {
		if (count)
			__sync_fetch_and_add(&n->lease_expired, 1);
		adm->reason = REASON_LEASE_EXPIRED;
	} else if (monitored(c)) {
		if (count) {
			count_would_reject(c, adm->reason);
			adm->counted = 1;
		}
		adm->reason = REASON_MONITORED;
	}
}

/* reject_over_limit rejects because of a limit, unless the circuit is only monitored or disabled. It returns true on
 * rejection. */
static __always_inline bool reject_over_limit(struct circuit *c, struct admission *adm, __u32 reason, bool count)
{
	if (monitored(c)) {
		if (count && adm->reason != REASON_MONITORED) {
			count_would_reject(c, reason);
			adm->counted = 1;
		}
		adm->reason = REASON_MONITORED;
		return false;
	}
	if (verdict_of(c)->kind == VERDICT_DISABLED)
		return false;
	adm->reason = reason;
	adm->until = 0;
	return true;
}

/* count_within_limit adds 1 to a counter with a limit. It returns false if the limit rejects; a limit that is not enforced is
 * exceeded. */
static __always_inline bool count_within_limit(struct circuit *c, __u64 *counter, __u32 max, struct admission *adm,
					       __u32 reason, bool count)
{
	if (try_increment(counter, max))
		return true;
	if (reject_over_limit(c, adm, reason, count))
		return false;
	__sync_fetch_and_add(counter, 1);
	return true;
}

/* grant_rate takes a permission of the rate limiter. It returns false if there is none and the limit is enforced. */
static __always_inline bool grant_rate(struct grant *g, struct admission *adm, bool count)
{
	struct circuit *c = g->to.circuit;
	__u64 next;

	g->rate = take_rate(g->to.target, g->to.policy, g->now);
	if (g->rate)
		return true;
	next = READ_ONCE(g->to.target->rate_next);
	if (!reject_over_limit(c, adm, REASON_RATE_LIMIT, count))
		return true;
	adm->until = next - g->to.policy->rate_burst;
	return false;
}

/* grant_permit takes a permit for a probe. Without a permit the probe is rejected, unless override_rejection admits it. */
static __always_inline void grant_permit(struct node_state *n, struct grant *g, struct admission *adm, bool count)
{
	struct circuit *c = g->to.circuit;
	bool counted = adm->reason == REASON_MONITORED;

	g->generation = adm->generation;
	g->permit = acquire_permit(c, adm, g->now);
	if (g->permit)
		return;
	adm->reason = REASON_HALF_OPEN;
	adm->generation = 0;
	override_rejection(c, n, adm, g->now, count && !counted);
	adm->counted |= count;
}

/* grant_connection takes the resources of a connection. Under an http policy the rejection is counted when the request
 * arrives. */
static __always_inline void grant_connection(struct node_state *n, struct grant *g, struct admission *adm)
{
	struct circuit *c = g->to.circuit;
	const struct policy *p = g->to.policy;
	bool tcp = p->protocol == PROTOCOL_TCP, probe = adm->reason == REASON_PROBE;

	override_rejection(c, n, adm, g->now, tcp);
	if (is_rejection(adm->reason))
		return;
	g->connection = count_within_limit(c, &g->to.target->connections, p->max_connections, adm, REASON_CONNECTION_LIMIT, true);
	if (!g->connection || (tcp && !grant_rate(g, adm, true)))
		return;
	if (probe)
		grant_permit(n, g, adm, tcp);
}

/* record_probe counts a permit and sends an event for it. */
static __always_inline void record_probe(struct node_state *n, const struct flow_key *key, const struct grant *g)
{
	__sync_fetch_and_add(&g->to.circuit->probes, 1);
	event_permit(n, key, g->to.circuit_id, g->generation, g->now, EVENT_PROBE);
}

/* init_flow fills the entry of a connection at its admitted SYN. */
static __always_inline void init_flow(struct __sk_buff *skb, const struct packet *pkt, const struct grant *g,
				      const struct admission *adm, struct flow *f)
{
	const struct policy *p = g->to.policy;
	struct tcp_options o = {};

	if (p->protocol != PROTOCOL_TCP && p->reject == REJECT_RESPOND)
		tcp_options(skb, pkt, &o);
	f->state = PHASE_SYN;
	f->last_seen = g->now;
	f->request.started = g->now;
	f->request.sent = g->now;
	f->request.circuit = g->to.circuit_id;
	f->request.generation = adm->generation;
	if (g->permit)
		f->request.flags = p->protocol == PROTOCOL_TCP ? REQUEST_PERMIT : REQUEST_PERMIT | REQUEST_RESERVED;
	f->flags = adm->counted ? FLOW_COUNTED : 0;
	f->target = g->to.id;
	f->ingress_ifindex = skb->ingress_ifindex;
	f->egress_ifindex = skb->ifindex;
	f->isn = pkt->seq;
	f->client_end = pkt->seq + 1;
	f->client_max = pkt->seq + 1 + pkt->payload;
	f->acked = pkt->seq + 1;
	f->mss = o.mss;
	f->protocol = p->protocol;
}

/* new_connection decides about the SYN of a new connection. */
__noinline __u64 new_connection(struct __sk_buff *skb, const struct packet *pkt, struct node_state *n)
{
	struct admission adm = {};
	struct grant g = {};
	struct flow *f;
	bool must_follow;

	if (!n || !pkt)
		return 0;
	if (lookup_target(pkt->target, &g.to) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	g.now = bpf_ktime_get_ns();
	circuit_admit(g.to.circuit, g.now, ramp_draw(n, g.to.circuit, &pkt->key), &adm);
	grant_connection(n, &g, &adm);
	if (is_rejection(adm.reason)) {
		release_grant(&g);
		return decision(TODO_REJECT_SYN, adm.reason);
	}
	must_follow = g.permit || g.to.policy->max_connections;
	f = blank_flow();
	if (f)
		init_flow(skb, pkt, &g, &adm, f);
	if (!f || !create_flow(n, &pkt->key, f, must_follow)) {
		release_grant(&g);
		return decision(must_follow ? TODO_REJECT_SYN : ACTION_PASS, REASON_TABLE_FULL);
	}
	if (g.permit)
		record_probe(n, &pkt->key, &g);
	if (g.to.policy->protocol == PROTOCOL_TCP)
		__sync_fetch_and_add(&g.to.circuit->admitted, 1);
	return decision(ACTION_PASS, adm.reason);
}

/* inherit_permit takes the permit that the SYN of the connection reserved for its first request. A permit of an earlier
 * generation was dropped with its verdict. */
static __always_inline bool inherit_permit(struct request *r, struct circuit *c, __u64 now, struct admission *adm)
{
	if (!(r->flags & REQUEST_RESERVED) || !(__sync_fetch_and_and(&r->flags, ~REQUEST_RESERVED) & REQUEST_RESERVED))
		return false;
	if (r->generation != generation_of(verdict_of(c), now)) {
		__sync_fetch_and_and(&r->flags, ~REQUEST_PERMIT);
		return false;
	}
	adm->reason = REASON_PROBE;
	adm->generation = r->generation;
	return true;
}

/* grant_request takes the resources of a request on an open connection. probe: it needs a permit of its own. */
static __always_inline void grant_request(struct node_state *n, const struct flow *f, struct grant *g, struct admission *adm,
					  bool probe)
{
	struct circuit *c = g->to.circuit;
	const struct policy *p = g->to.policy;
	bool count = !(f->flags & FLOW_COUNTED);

	override_rejection(c, n, adm, g->now, count);
	if (is_rejection(adm->reason)) {
		if (p->existing)
			return;
		adm->reason = REASON_ADMITTED;
		adm->generation = 0;
	}
	if (p->max_requests_per_connection && f->requests >= p->max_requests_per_connection &&
	    reject_over_limit(c, adm, REASON_CONNECTION_LIMIT, count))
		return;
	g->request = count_within_limit(c, &c->requests, p->max_requests, adm, REASON_REQUEST_LIMIT, count);
	if (!g->request || !grant_rate(g, adm, count) || !probe)
		return;
	grant_permit(n, g, adm, count);
	if (is_rejection(adm->reason) && !p->existing)
		adm->reason = REASON_ADMITTED;
}

/* begin_request stores an admitted request as the pending one. Its response begins at response_at. It returns false if another
 * CPU has closed the connection: the phase is read after the request is stored, so either that CPU ends the request or this one
 * removes it. */
static __always_inline bool begin_request(const struct packet *pkt, struct flow *f, struct request *r, __u64 state,
					  const struct grant *g, bool permit, __u32 generation, __u32 response_at)
{
	__u32 flags = (permit ? REQUEST_PERMIT : 0) | (f->flags & FLOW_BACKEND_FIN ? REQUEST_RACED : 0);

	r->started = g->now;
	r->sent = g->now;
	r->circuit = g->to.circuit_id;
	r->generation = generation;
	r->start = pkt->seq + pkt->skip;
	if (flags & ~r->flags)
		__sync_fetch_and_or(&r->flags, flags);
	f->backend_next = response_at;
	f->requests++;
	if (f->flags & FLOW_COUNTED)
		__sync_fetch_and_and(&f->flags, ~FLOW_COUNTED);
	f->client_end = pkt->seq + pkt->payload;
	if (!change_state(&r->state, state, REQUEST_WAIT))
		return false;
	if (phase_of(READ_ONCE(f->state)) != PHASE_GONE)
		return true;
	state = READ_ONCE(r->state);
	return request_state_of(state) != REQUEST_WAIT || !change_state(&r->state, state, REQUEST_NONE);
}

/* new_request decides about a request on an open connection and stores it in r if it is admitted. The response begins at
 * response_at, a sequence number of the backend. The reason is REASON_FLOW if no request can begin in this state. */
__noinline __u64 new_request(struct packet *pkt, struct node_state *n, struct flow *f, struct request *r, __u32 response_at)
{
	struct admission adm = {};
	struct grant g = {};
	bool inherited, probe;
	__u64 state;

	if (!f || !n || !pkt || !r)
		return 0;
	if (lookup_target(f->target, &g.to) != LOOKUP_FOUND)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	state = READ_ONCE(r->state);
	if (request_state_of(state) != REQUEST_NONE || phase_of(READ_ONCE(f->state)) != PHASE_OPEN)
		return decision(ACTION_PASS, REASON_FLOW);
	g.now = bpf_ktime_get_ns();
	inherited = inherit_permit(&f->request, g.to.circuit, g.now, &adm);
	if (!inherited)
		circuit_admit(g.to.circuit, g.now, ramp_draw(n, g.to.circuit, &pkt->key), &adm);
	probe = !inherited && adm.reason == REASON_PROBE;
	grant_request(n, f, &g, &adm, probe);
	if (is_rejection(adm.reason)) {
		release_grant(&g);
		/* close_flow returns the reserved permit, and sends the event for it. */
		if (inherited)
			__sync_fetch_and_or(&f->request.flags, REQUEST_RESERVED);
		pkt->until = adm.until;
		return decision(TODO_REJECT_REQUEST, adm.reason);
	}
	if (!begin_request(pkt, f, r, state, &g, inherited || g.permit, adm.generation, response_at)) {
		release_grant(&g);
		if (inherited)
			return_reservation(n, &pkt->key, &f->request, g.now);
		return decision(ACTION_PASS, REASON_FLOW);
	}
	__sync_fetch_and_add(&g.to.circuit->admitted, 1);
	if (g.permit)
		record_probe(n, &pkt->key, &g);
	return decision(ACTION_PASS, adm.reason);
}
