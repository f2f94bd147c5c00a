/* Counters of packets by hook, action and reason. */
#pragma once

#include "maps.h"

/* count_packet adds a packet with decision d. Counters are per CPU, and programs of one hook do not preempt each other on a
 * CPU, so plain additions are safe. connect() runs in a process that another one may preempt, so it adds atomically. */
static __always_inline void count_packet(__u32 hook, __u64 d)
{
	const bool preemptible = hook == HOOK_CONNECT;
	struct packet_counts *counts = bpf_map_lookup_elem(&packets, &hook);
	__u32 action = d >> 32, reason = (__u32)d;

	/* The compiler would fold both bounds into one 64-bit comparison, which the verifier does not track. */
	asm volatile("" : "+r"(action), "+r"(reason));
	if (!counts || action >= ACTION_MAX || reason >= REASON_MAX)
		return;
	if (preemptible)
		__sync_fetch_and_add(&counts->n[action][reason], 1);
	else
		counts->n[action][reason]++;
}
