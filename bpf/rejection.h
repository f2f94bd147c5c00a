/* Rejections by reason: index and counters. */
#pragma once

#include "verdict.h"

/* rejection_index returns the index of a rejection reason, REJECTIONS for any other reason. A compiler that knows the range of
 * reason would omit the bound, which the verifiers of older kernels need. */
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

static __always_inline void count_would_reject(struct circuit *c, __u32 reason)
{
	__u32 i = rejection_index(reason);

	if (i < REJECTIONS)
		__sync_fetch_and_add(&c->would_reject[i], 1);
}
