#pragma once

#include "types.h"

/* The agent sets sizes marked "agent" before it loads the maps. */

/* Settings and counts of the node, at key 0. The agent writes settings, the programs write counts. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_state);
} node SEC(".maps");

/* Compiled policies by index. The agent writes an unused index before a target refers to it. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy);
} policies SEC(".maps");

/* Rendered HTTP answers; policies with equal answers share them. The agent writes an unused index before a policy refers to it.
 * Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

/* Policy, circuit and counts of each target. The agent writes policies, the programs write counts. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target);
} targets SEC(".maps");

/* Verdict and totals of each circuit. The agent writes verdicts, the programs write totals. Size: agent. */
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

/* Followed connections. Not an LRU map: eviction would lose the permits and counts that a flow holds. Only programs write; the
 * sweep removes old flows. It holds twice node.flow_max, so that flow_count is the limit that is reached first. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* HTTP/2 connections by a number that is used once. Only programs write; the sweep removes closed ones. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct http2_connection);
} http2_connections SEC(".maps");

/* Streams of HTTP/2 connections. Not an LRU map, for the reason given at flows. Only programs write. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct stream_key);
	__type(value, struct stream);
} streams SEC(".maps");

/* Connections that the kernel answered. Eviction is safe: the client gets a reset. Only programs write. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct answered_flow);
} answered SEC(".maps");

/* HTTP/2 connections that the kernel answered and keeps open. Each has an entry in answered too, which finds it first, and stays
 * longer if both are evicted only for their age: then the client gets a reset. An evicted entry
 * may be changed by a program that found it before; both the old and the new client then get wrong replies, and close. Only
 * programs write. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct kept_connection);
} kept SEC(".maps");

/* Connections of this host that NAT changes: from the key with the addresses of the client's socket to the key on lo. For
 * resets and SYN-ACKs without a socket. Eviction is safe: such a packet is not attributed to its connection. Only programs
 * write. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow_key);
} nat_flows SEC(".maps");

/* Input of the program unreachable: backends that cannot be reached. The agent fills it before a run and empties it after.
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

/* Interfaces on which clients are rejected as they enter, by ifindex. No program of another owner on them depends on the
 * packets that are rejected, or would drop an answer. Written by the agent. */
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

/* Count of responses by circuit and status. Programs add, the agent reads and removes. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct status_key);
	__type(value, __u64);
} statuses SEC(".maps");

struct cidr_key {
	__u32 prefix_len; /* bits of port and address: 16 + the prefix of the 16-byte address */
	__be16 port_be;
	__u8 addr[16];
	__u16 pad;
};

/* Networks whose backends the agent learns from traffic. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct cidr_key);
	__type(value, __u32); /* 1 << direction */
} cidrs SEC(".maps");

/* Time of the last EVENT_LEARN of an endpoint, so that a burst of SYNs causes one event. Eviction is safe: it causes one more
 * event. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct endpoint);
	__type(value, __u64);
} learning SEC(".maps");

struct source_key {
	__u32 prefix_len; /* bits of policy and address: 32 + the prefix of the 16-byte address */
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

/* Count of packets by hook, action and reason. Per CPU: programs add, the agent sums. */
struct packet_counts {
	__u64 n[ACTION_MAX][REASON_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_MAX);
	__type(key, __u32);
	__type(value, struct packet_counts);
} packets SEC(".maps");

/* Buffer for the head of a message. Per CPU is safe: TC programs do not preempt each other on a CPU, and the sweep does not use
 * it. */
#define HEAD_MAX 4096 /* a power of two */
#define HEAD_ROOM 128 /* head_step may read this far beyond HEAD_MAX */

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

/* Buffer for the entry of a new connection: the stack has no room for it. Per CPU is safe for the reason given at heads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} new_flow SEC(".maps");

/* Buffer for the entry of a new HTTP/2 connection. Per CPU is safe for the reason given at heads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http2_connection);
} new_http2 SEC(".maps");

/* Buffer for the entry of a new connection that is kept. Per CPU is safe for the reason given at heads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kept_connection);
} new_kept SEC(".maps");

/* Events for the agent, of type struct event. Size: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");
