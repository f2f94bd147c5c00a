/* Rejections by reason: their index, and their counters. */
#pragma once

#include "verdict.h"

/* rejection_index is the place of a reason among the rejections, REJECTIONS when it has none. The bound is made where the
 * verifiers of older kernels see it: a compiler that knows the reason's range leaves it out. */
static __always_inline __u32 rejection_index(__u32 reason)
{
	__u32 i = reason - REASON_OPEN;

	asm volatile("" : "+r"(i));
	return i < REJECTIONS ? i : REJECTIONS;
}

static __always_inline void count_rejection(struct circuit *c, __u32 reason, enum reject how)
{
	__u32 i = rejection_index(reason);

	if (i < REJECTIONS && how < REJECT_MAX)
		__sync_fetch_and_add(&c->rejected[i][how], 1);
}

static __always_inline void count_would(struct circuit *c, __u32 reason)
{
	__u32 i = rejection_index(reason);

	if (i < REJECTIONS)
		__sync_fetch_and_add(&c->would[i], 1);
}
