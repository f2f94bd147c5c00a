/* Outcomes. Each is added to the totals; those that the agent needs at once are also sent as events. */
#pragma once

#include "verdict.h"

static __always_inline bool in_set(const __u64 *set, __u16 result)
{
	return result <= GRPC_MAX && set[result / 64] & (1ULL << (result % 64));
}

static __always_inline bool is_status(__u16 result)
{
	return result >= STATUS_MIN && result <= STATUS_MAX;
}

static __always_inline bool is_grpc(__u16 result)
{
	return result >= GRPC_MIN && result <= GRPC_MAX;
}

static __always_inline __u32 outcome_class(__u16 result)
{
	__u32 hundreds = result / 100;

	if (result < RESULT_NAMED)
		return result;
	if (is_grpc(result))
		return RESULT_NAMED + STATUS_CLASSES + result - GRPC_MIN;
	return hundreds >= 1 && hundreds <= STATUS_CLASSES ? RESULT_NAMED - 1 + hundreds : RESULT_NONE;
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

/* event_reserve reserves an event in the ring, which the caller fills in place and submits: the stack has no room for a copy.
 * It returns NULL, and counts the loss, if the ring is full. */
static __always_inline struct event *event_reserve(struct node_state *n, const struct flow_key *key)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&n->lost_events, 1);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	/* One word at a time: otherwise the compiler loads all words first and spills them to the stack. */
#pragma unroll
	for (int i = 0; i < sizeof(*key) / 4; i++) {
		((__u32 *)&e->flow)[i] = ((const __u32 *)key)[i];
		asm volatile("" ::: "memory");
	}
	return e;
}

static __always_inline void event_submit(struct event *e)
{
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void event_permit(struct node_state *n, const struct flow_key *key, __u32 circuit, __u32 generation,
					 __u64 now, enum event_kind kind)
{
	struct event *e = event_reserve(n, key);

	if (!e)
		return;
	e->at = now;
	e->began = now;
	e->sent = now;
	e->circuit = circuit;
	e->generation = generation;
	e->kind = kind;
	e->flags = EVENT_PERMIT;
	event_submit(e);
}

/* The end of a request or a connection attempt. generation and permit are those of its admission. */
struct completion {
	__u64 began;
	__u64 sent;
	__u64 now;
	__u32 generation;
	__u32 permit;
	__u32 result;
	__u32 request; /* 1: a request, counted in circuit.requests */
};

/* count_outcome adds an outcome to the totals, judged or not. A status and a gRPC code are responses, which have a latency. */
static __always_inline void count_outcome(struct circuit *c, __u32 circuit, __u16 result, __u64 latency)
{
	__u32 class = outcome_class(result);

	/* The compiler knows the bound and would omit the comparison, which the verifier needs. */
	asm volatile("" : "+r"(class));
	if (class < OUTCOME_CLASSES)
		__sync_fetch_and_add(&c->outcomes[class], 1);
	if (is_status(result))
		count_status(circuit, result);
	if (is_status(result) || is_grpc(result)) {
		__sync_fetch_and_add(&c->latency[latency_bucket(latency)], 1);
		__sync_fetch_and_add(&c->latency_sum, latency);
	}
}

enum judgement { IGNORED, SUCCESS, FAILURE };

/* judgement_of returns how a policy judges a result. A client that closed first, or a request that crossed the backend's FIN,
 * is ignored unless the policy names it. */
static __always_inline enum judgement judgement_of(const struct policy *p, __u16 result)
{
	if (result == RESULT_UNKNOWN || in_set(p->ignore, result))
		return IGNORED;
	if (in_set(p->failure, result))
		return FAILURE;
	if (result == RESULT_ABORTED || result == RESULT_ABANDONED || result == RESULT_RACED)
		return IGNORED;
	return SUCCESS;
}

/* The part of an outcome that its event contains. */
struct judged {
	__u64 ordinal; /* verdict.judged before it */
	__u64 duration; /* verdict.duration including it */
	__u32 flags; /* enum event_flag */
	__u32 send_event; /* 1: the agent needs it at once */
};

/* judge counts an outcome in the verdict's slot if it belongs to the generation in force and is not ignored. The slot is read
 * once, so that an outcome never changes the counts of a later verdict. */
static __always_inline void judge(struct circuit *c, const struct policy *p, const struct completion *done, __u64 latency,
				  struct judged *out)
{
	enum judgement judgement = judgement_of(p, done->result);
	struct verdict *v = verdict_of(c);
	bool current = done->generation && done->generation == generation_of(v, done->now);
	bool judged = current && judgement != IGNORED && (v->kind == VERDICT_CLOSED || half_open(v, done->now));

	out->flags = (judgement == FAILURE ? EVENT_FAILURE : 0) | (done->permit ? EVENT_PERMIT : 0);
	if (p->slow && latency > p->slow)
		out->flags |= EVENT_SLOW;
	if (judged) {
		out->send_event |= out->flags || v->kind != VERDICT_CLOSED || p->flags & POLICY_EVERY;
		out->flags |= EVENT_JUDGED;
		out->duration = __sync_fetch_and_add(&v->duration, latency) + latency;
		if (judgement == FAILURE)
			__sync_fetch_and_add(&v->failures, 1);
		else if (out->flags & EVENT_SLOW)
			__sync_fetch_and_add(&v->slow, 1);
		out->ordinal = __sync_fetch_and_add(&v->judged, out->send_event ? 1 + JUDGED_EVENT : 1);
	} else {
		__sync_fetch_and_add(&c->unjudged, 1);
	}
	if (current && done->permit) {
		/* The order matters: when the last permit is returned, its outcome is already counted. */
		__sync_fetch_and_add(&v->permits, judged ? -PERMIT_INFLIGHT : -(PERMIT_INFLIGHT + PERMIT_USED));
		out->send_event = true;
	}
}

static __always_inline void event_outcome(struct node_state *n, const struct flow_key *key, __u32 circuit,
					  const struct completion *done, const struct judged *judged)
{
	struct event *e = event_reserve(n, key);

	if (!e)
		return;
	e->at = done->now;
	e->began = done->began;
	e->sent = done->sent;
	e->judged = judged->ordinal;
	e->duration = judged->duration;
	e->circuit = circuit;
	e->generation = done->generation;
	e->result = done->result;
	e->kind = EVENT_OUTCOME;
	e->flags = judged->flags;
	event_submit(e);
}

/* record_completion counts and judges an outcome, and sends an event if the agent needs it at once. */
__noinline int record_completion(const struct flow_key *key, __u32 circuit, const struct completion *done)
{
	struct circuit *c = circuit_of(circuit);
	struct node_state *n = the_node();
	struct judged judged = {};
	struct policy *p;
	__u64 latency;

	if (!c || !n || !key || !done)
		return 0;
	if (done->request)
		__sync_fetch_and_add(&c->requests, -1);
	p = judging_policy(c);
	if (!p)
		return 0;
	latency = done->now > done->sent ? done->now - done->sent : 0;
	count_outcome(c, circuit, done->result, latency);
	judged.send_event = !!(n->flags & NODE_TRACE);
	judge(c, p, done, latency, &judged);
	if (judged.send_event)
		event_outcome(n, key, circuit, done, &judged);
	return 0;
}
