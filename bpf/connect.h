/* connect() of a process, before the first packet. The hook sees the address before NAT. */
#pragma once

#include "count.h"
#include "early.h"

#define ECONNREFUSED 111

#define CONNECT_ALLOW 1
#define CONNECT_REJECT 0

/* in_pod reports whether the current process belongs to a pod. Processes of the node may check the health of its pods. */
static __always_inline bool in_pod(const struct node_state *n)
{
	return !n->kubepods || bpf_get_current_ancestor_cgroup_id(n->kubepods_level) == n->kubepods;
}

/* run_connect decides about a connection to ep. */
static __always_inline int run_connect(struct bpf_sock_addr *ctx, struct endpoint *ep)
{
	struct node_state *n = the_node();
	__u64 d;

	ep->port_be = (__be16)ctx->user_port;
	ep->direction = DIRECTION_OUTBOUND;
	if (!n || !in_pod(n))
		return CONNECT_ALLOW;
	d = reject_early(ep);
	count_packet(HOOK_CONNECT, d);
	if (d >> 32 == ACTION_PASS)
		return CONNECT_ALLOW;
	bpf_set_retval(-ECONNREFUSED);
	return CONNECT_REJECT;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint ep = {};

	if (ctx->protocol != IPPROTO_TCP)
		return CONNECT_ALLOW;
	map_v4(ep.addr, ctx->user_ip4);
	return run_connect(ctx, &ep);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint ep = {};

	if (ctx->protocol != IPPROTO_TCP)
		return CONNECT_ALLOW;
	/* An IPv4-mapped address has the form of the maps' keys. */
	for (int i = 0; i < 4; i++) {
		__u32 word = ctx->user_ip6[i];

		__builtin_memcpy(ep.addr + 4 * i, &word, 4);
	}
	return run_connect(ctx, &ep);
}
