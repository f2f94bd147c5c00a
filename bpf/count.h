/* Counters of packets, by hook, action and reason. */
#pragma once

#include "maps.h"

/* count_packet counts what a program did. Counters are per CPU, and programs of one hook do not interrupt each other on a CPU,
 * so no atomic operation is needed. connect() is the exception: it runs in a process, which another one may preempt. */
static __always_inline void count_packet(__u32 hook, __u64 d)
{
	const bool preemptible = hook == HOOK_CONNECT;
	struct packet_counts *counts = bpf_map_lookup_elem(&packets, &hook);
	__u32 action = d >> 32, reason = (__u32)d;

	/* Two separate bounds, where the compiler would fold them into one of 64 bits. */
	asm volatile("" : "+r"(action), "+r"(reason));
	if (!counts || action >= ACTION_MAX || reason >= REASON_MAX)
		return;
	if (preemptible)
		__sync_fetch_and_add(&counts->n[action][reason], 1);
	else
		counts->n[action][reason]++;
}
