/* Verdicts and permits of a circuit, limits of a target. The functions are pure except for atomic operations on both: clock and
 * random number are arguments, so that tests can inject them. */
#pragma once

#include "maps.h"

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

/* Bound of a compare-and-swap loop. Each failure means that another CPU succeeded; after this many the connection or request is
 * rejected. */
#define CAS_TRIES 64

struct admission {
	__u32 reason; /* REASON_ADMITTED, REASON_PROBE (needs a permit), or a rejection */
	__u32 generation; /* 0 = the outcome is not judged */
	__u64 until; /* of a rejection: time of the next admission, 0 = unknown */
	__u32 counted; /* 1: counted in circuit.would_reject */
	__u32 pad;
};

static __always_inline struct node_state *the_node(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&node, &zero);
}

static __always_inline struct circuit *circuit_of(__u32 id)
{
	return bpf_map_lookup_elem(&circuits, &id);
}

static __always_inline struct answer *answer_at(__u32 index)
{
	return bpf_map_lookup_elem(&answers, &index);
}

static __always_inline struct target *target_of(__u32 id)
{
	return bpf_map_lookup_elem(&targets, &id);
}

static __always_inline struct policy *policy_at(__u32 index)
{
	return bpf_map_lookup_elem(&policies, &index);
}

static __always_inline struct policy *policy_of(struct target *t)
{
	return policy_at(READ_ONCE(t->policy));
}

/* judging_policy returns the policy that judges the outcomes of a circuit, NULL after the release of the circuit. */
static __always_inline struct policy *judging_policy(struct circuit *c)
{
	return policy_at(READ_ONCE(c->policy));
}

static __always_inline struct verdict *verdict_of(struct circuit *c)
{
	return READ_ONCE(c->published) & 1 ? &c->slots[1] : &c->slots[0];
}

/* half_open reports whether an open verdict has reached its deadline: it is then half-open, with the next generation. A
 * comparison of times instead of a stored state leaves no race between CPUs. */
static __always_inline bool half_open(const struct verdict *v, __u64 now)
{
	return v->kind == VERDICT_OPEN && now >= v->until;
}

static __always_inline __u32 generation_of(const struct verdict *v, __u64 now)
{
	return v->generation + half_open(v, now);
}

/* verdict_rejection returns the reason for which a verdict rejects every request, 0 if it does not. */
static __always_inline __u32 verdict_rejection(const struct verdict *v, __u64 now)
{
	if (v->kind == VERDICT_FORCED_OPEN)
		return REASON_FORCED_OPEN;
	return v->kind == VERDICT_OPEN && !half_open(v, now) ? REASON_OPEN : 0;
}

static __always_inline bool verdict_take_permit(struct verdict *v)
{
	for (int i = 0; i < CAS_TRIES; i++) {
		__u64 old = READ_ONCE(v->permits);

		if ((__u32)old >= v->calls || old >> 32 >= v->concurrent)
			return false;
		if (__sync_val_compare_and_swap(&v->permits, old, old + PERMIT_USED + PERMIT_INFLIGHT) == old)
			return true;
	}
	return false;
}

/* acquire_permit takes a permit of the generation for which circuit_admit returned REASON_PROBE. It fails if the verdict has
 * changed in between. */
static __always_inline bool acquire_permit(struct circuit *c, const struct admission *adm, __u64 now)
{
	struct verdict *v = verdict_of(c);

	return generation_of(v, now) == adm->generation && verdict_take_permit(v);
}

/* release_permit returns a permit. A permit of an earlier generation was dropped with its slot. unused: another probe may take
 * it. */
static __always_inline void release_permit(struct circuit *c, __u32 generation, __u64 now, bool unused)
{
	struct verdict *v = verdict_of(c);

	if (generation_of(v, now) == generation)
		__sync_fetch_and_add(&v->permits, unused ? -(PERMIT_INFLIGHT + PERMIT_USED) : -PERMIT_INFLIGHT);
}

static __always_inline __u32 ramp_share(const struct verdict *v, __u64 now)
{
	__u64 elapsed = now - v->until;

	if (elapsed >= v->ramp_over)
		return v->ramp_to;
	/* No overflow: in milliseconds the product is below 2^24 x 2^27 (one day) = 2^51. ramp_over is at least 1 ms. */
	return v->ramp_from + (__u64)(v->ramp_to - v->ramp_from) * (elapsed / 1000000) / (v->ramp_over / 1000000 ?: 1);
}

/* circuit_admit decides by the verdict alone. The caller takes the permit of a probe last, so that a request that a limit
 * rejects uses none. */
__noinline int circuit_admit(struct circuit *c, __u64 now, __u32 random, struct admission *out)
{
	struct verdict *v;

	if (!c || !out)
		return 0;
	v = verdict_of(c);
	out->generation = 0;
	out->until = 0;
	out->reason = verdict_rejection(v, now) ?: REASON_ADMITTED;
	if (out->reason != REASON_ADMITTED) {
		out->until = v->until;
		return 0;
	}
	if (v->kind == VERDICT_DISABLED)
		return 0;
	out->generation = generation_of(v, now);
	if (!half_open(v, now))
		return 0;
	if (v->ramp_over && (random & (SHARE_ALL - 1)) >= ramp_share(v, now)) {
		out->reason = REASON_HALF_OPEN;
		out->generation = 0;
	} else if (!v->ramp_over && v->calls) {
		out->reason = REASON_PROBE;
	}
	return 0;
}

static __always_inline bool monitored(struct circuit *c)
{
	return verdict_of(c)->flags & VERDICT_MONITOR;
}

static __always_inline bool is_rejection(__u32 reason)
{
	return reason >= REASON_OPEN && reason < REASON_MAX;
}

/* try_increment adds 1 to a count unless the count would exceed max; max 0 = no limit. A CPU that loses the race undoes its
 * addition, so at most max are admitted. */
static __always_inline bool try_increment(__u64 *count, __u32 max)
{
	if (max && READ_ONCE(*count) >= max)
		return false;
	if (__sync_fetch_and_add(count, 1) >= max && max) {
		__sync_fetch_and_add(count, -1);
		return false;
	}
	return true;
}

/* take_rate implements the generic cell rate algorithm (ITU-T I.371): rate_next is the theoretical arrival time of the next
 * permission. It may be ahead of the clock by at most rate_burst. */
static __always_inline bool take_rate(struct target *t, const struct policy *p, __u64 now)
{
	if (!p->rate_interval)
		return true;
	for (int i = 0; i < CAS_TRIES; i++) {
		__u64 next = READ_ONCE(t->rate_next), base = next > now ? next : now;

		if (base - now > p->rate_burst)
			return false;
		if (__sync_val_compare_and_swap(&t->rate_next, next, base + p->rate_interval) == next)
			return true;
	}
	return false;
}

/* release_rate undoes take_rate for a connection or request that a later step rejects. */
static __always_inline void release_rate(struct target *t, const struct policy *p)
{
	__sync_fetch_and_add(&t->rate_next, -p->rate_interval);
}

static __always_inline bool lease_expired(const struct node_state *n, __u64 now)
{
	return now >= READ_ONCE(n->lease_until);
}

/* certain_rejection returns the reason for which a circuit rejects every new connection now, or REASON_FLOW. */
static __always_inline __u32 certain_rejection(struct circuit *c, const struct node_state *n, __u64 now)
{
	struct verdict *v = verdict_of(c);

	if (lease_expired(n, now) || v->flags & VERDICT_MONITOR)
		return REASON_FLOW;
	return verdict_rejection(v, now) ?: REASON_FLOW;
}
