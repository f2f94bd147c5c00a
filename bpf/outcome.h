/* Outcomes: counted in the totals always, sent to the agent when it needs to know at once. */
#pragma once

#include "verdict.h"

static __always_inline bool in_set(const __u64 *set, __u16 result)
{
	return result <= STATUS_MAX && set[result / 64] & (1ULL << (result % 64));
}

static __always_inline __u32 outcome_class(__u16 result)
{
	__u32 hundreds = result / 100;

	if (result < RESULT_NAMED)
		return result;
	return hundreds >= 1 && hundreds <= 9 ? RESULT_NAMED - 1 + hundreds : RESULT_NONE;
}

static __always_inline __u32 latency_bucket(__u64 ns)
{
	__u64 units = ns >> LATENCY_BITS;
	__u32 bucket = 0;

	for (int i = 0; i < LATENCY_BUCKETS - 1; i++) {
		if (!units)
			break;
		units >>= 1;
		bucket++;
	}
	return bucket;
}

static __always_inline void count_status(__u32 circuit, __u16 status)
{
	struct status_key key = { .circuit = circuit, .status = status };
	__u64 *n = bpf_map_lookup_elem(&statuses, &key), one = 1;

	if (n)
		__sync_fetch_and_add(n, 1);
	else if (bpf_map_update_elem(&statuses, &key, &one, BPF_NOEXIST) && (n = bpf_map_lookup_elem(&statuses, &key)))
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct node_state *the_node(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&node, &zero);
}

static __always_inline void tell(struct node_state *n, const struct event *from)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&n->lost_events, 1);
		return;
	}
	*e = *from;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void tell_permit(struct node_state *n, const struct flow_key *key, __u32 circuit, __u32 generation,
					__u64 now, enum event_kind kind)
{
	struct event e = {
		.at = now,
		.began = now,
		.circuit = circuit,
		.generation = generation,
		.kind = kind,
		.flags = EVENT_PERMIT,
		.flow = *key,
	};

	tell(n, &e);
}

/* How the pending thing of a flow ended, once. generation and permit are the flow's. */
struct ending {
	__u64 began;
	__u64 now;
	__u32 generation;
	__u32 permit;
	__u32 result;
	__u32 pad;
};

__noinline int record(const struct flow_key *key, __u32 circuit, const struct ending *end)
{
	struct circuit *c = circuit_of(circuit);
	struct node_state *n = the_node();
	struct event e = {};
	struct policy *p;
	struct verdict *v;
	__u16 result;
	bool failure, ignored, judged, current, want;
	__u64 latency, now;
	__u32 class;

	if (!c || !n || !key || !end)
		return 0;
	p = policy_of(c);
	if (!p)
		return 0;
	now = end->now;
	result = end->result;
	latency = now > end->began ? now - end->began : 0;

	class = outcome_class(result);
	/* The compiler knows this; the verifier must see it. */
	asm volatile("" : "+r"(class));
	if (class < OUTCOME_CLASSES)
		__sync_fetch_and_add(&c->outcomes[class], 1);
	if (result >= STATUS_MIN && result <= STATUS_MAX) {
		count_status(circuit, result);
		__sync_fetch_and_add(&c->latency[latency_bucket(latency)], 1);
		__sync_fetch_and_add(&c->latency_sum, latency);
	}

	ignored = in_set(p->ignore, result);
	failure = !ignored && in_set(p->failure, result);
	if (!failure && (result == RESULT_ABORTED || result == RESULT_UNKNOWN))
		ignored = true;
	if (result == RESULT_UNKNOWN)
		ignored = true, failure = false;

	/* The slot is read once: an outcome that a new verdict overtakes still lands in its own generation's slot. */
	v = verdict_of(c);
	current = end->generation && end->generation == generation_of(v, now);
	judged = current && !ignored && (v->kind == VERDICT_CLOSED || half_open(v, now));

	e.flags = (failure ? EVENT_FAILURE : 0) | (end->permit ? EVENT_PERMIT : 0);
	if (p->slow && latency > p->slow)
		e.flags |= EVENT_SLOW;
	want = n->flags & NODE_TRACE;
	if (judged) {
		want = want || e.flags || v->kind != VERDICT_CLOSED || p->flags & POLICY_EVERY;
		e.flags |= EVENT_JUDGED;
		e.duration = __sync_fetch_and_add(&v->duration, latency) + latency;
		if (failure)
			__sync_fetch_and_add(&v->failures, 1);
		else if (e.flags & EVENT_SLOW)
			__sync_fetch_and_add(&v->slow, 1);
		e.judged = __sync_fetch_and_add(&v->judged, want ? 1 + JUDGED_EVENT : 1);
	} else {
		__sync_fetch_and_add(&c->unjudged, 1);
	}
	if (current && end->permit) {
		/* Ordinal before permit: when the last permit is back, its outcome is among the judged. */
		__sync_fetch_and_add(&v->permits, judged ? -PERMIT_INFLIGHT : -(PERMIT_INFLIGHT + PERMIT_USED));
		want = true;
	}
	if (!want)
		return 0;
	e.at = now;
	e.began = end->began;
	e.circuit = circuit;
	e.generation = end->generation;
	e.result = result;
	e.kind = EVENT_OUTCOME;
	e.flow = *key;
	tell(n, &e);
	return 0;
}
