/* sk_lookup: connections to a listener of this host after NAT, which no TC hook sees. */
#pragma once

#include "count.h"
#include "early.h"

#define AF_INET 2

SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	struct endpoint ep = { .port_be = bpf_htons((__u16)ctx->local_port) };
	__u64 d;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->family == AF_INET) {
		map_v4(ep.addr, ctx->local_ip4);
	} else {
		for (int i = 0; i < 4; i++) {
			__u32 word = ctx->local_ip6[i];

			__builtin_memcpy(ep.addr + 4 * i, &word, 4);
		}
	}
	ep.direction = direction_of(ctx->ingress_ifindex);
	d = reject_early(&ep);
	count_packet(HOOK_LOOKUP, d);
	return d >> 32 == ACTION_PASS ? SK_PASS : SK_DROP;
}
