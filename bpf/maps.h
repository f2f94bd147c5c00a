#pragma once

#include "types.h"

/* Sizes marked "agent" are set by the agent before loading. */

/* The node's settings and counts. Key 0. Agent writes settings, programs write counts. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_state);
} node SEC(".maps");

/* Compiled policies by index. Written by the agent into an unused index before any target names it. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy);
} policies SEC(".maps");

/* Rendered HTTP answers, shared by policies that say the same. Written as policies are. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

/* Policy and limits of each target. Policies by the agent, counts by the programs. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target);
} targets SEC(".maps");

/* Verdict and totals of each circuit. Verdicts by the agent, totals by the programs. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct circuit);
} circuits SEC(".maps");

/* Endpoint to target. Written by the agent. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct endpoint);
	__type(value, struct backend);
} backends SEC(".maps");

/* Followed connections. Never evicts: what a flow reserves must be given back. Programs only; aged by the sweep.
 * Twice node.flow_max, so that the count, not the map, is what rejects. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Connections that the kernel answered. Losing one only costs its client a reset. Programs only. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct answered_flow);
} answered SEC(".maps");

/* Connections of this host that NAT changes: as the client's socket knows them, to what they are on lo. For resets and
 * SYN-ACKs that no socket sends; losing one only leaves these without their connection. Programs only. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow_key);
} dialled SEC(".maps");

/* Backends that cannot be reached, for as long as the program unreachable runs. Written by the agent, which empties it again.
 * Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct endpoint);
	__type(value, struct unreachable_backend);
} unreachables SEC(".maps");

/* Interfaces through which remote traffic enters, by ifindex. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} uplinks SEC(".maps");

/* Interfaces where clients are rejected as they enter, by ifindex: no programs of others would miss the packets that are
 * taken, or drop an answer that they know nothing of. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u32);
} entries SEC(".maps");

struct status_key {
	__u32 circuit;
	__u32 status;
};

/* Responses by circuit and status. Programs add, the agent reads and removes. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct status_key);
	__type(value, __u64);
} statuses SEC(".maps");

struct cidr_key {
	__u32 prefix_len; /* of port and address together: 16 + that of the 16-byte address */
	__be16 port_be;
	__u8 addr[16];
	__u16 pad;
};

/* Networks whose backends are learned from traffic. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct cidr_key);
	__type(value, __u32); /* 1 << direction */
} cidrs SEC(".maps");

/* Endpoints told to the agent lately, so that a burst of SYNs is one event. Value: when. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct endpoint);
	__type(value, __u64);
} learning SEC(".maps");

struct source_key {
	__u32 prefix_len; /* 32 + that of the 16-byte address */
	__u32 policy;
	__u8 addr[16];
};

/* Clients that a policy exempts. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct source_key);
	__type(value, __u32);
} exempt_sources SEC(".maps");

/* Packets by hook, then by action and reason. Per CPU: programs add, the agent sums. */
struct packet_counts {
	__u64 n[ACTION_MAX][REASON_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_MAX);
	__type(key, __u32);
	__type(value, struct packet_counts);
} packets SEC(".maps");

/* A message's head, while it is read. Per CPU: TC programs of one CPU do not interrupt each other, and the sweep reads none. */
#define HEAD_MAX 4096 /* a power of two */
#define HEAD_ROOM 128 /* a step may read so far beyond the end */

_Static_assert(IS_POWER_OF_2(HEAD_MAX), "an offset in a head is bounded by a mask");

struct head_bytes {
	__u8 bytes[HEAD_MAX + HEAD_ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct head_bytes);
} heads SEC(".maps");

/* The entry of a new connection, while it is filled: the stack has no room. Per CPU, as heads is. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} new_flow SEC(".maps");

/* Events for the agent: struct event. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");
