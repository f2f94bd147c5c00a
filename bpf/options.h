/* Options of a TCP header. */
#pragma once

#include "parse.h"

struct tcp_options {
	__u32 mss; /* 0 = none */
	__u32 has_ts;
	__be32 ts_val;
	__be32 ts_ecr;
};

struct option_walk {
	struct __sk_buff *skb;
	__u32 at; /* offset in the packet */
	__u32 end;
	struct tcp_options out;
};

static long option_step(__u32 step, struct option_walk *w)
{
	__u8 head[2] = {}, mss[2];
	__be32 ts[2];

	if (w->at >= w->end || bpf_skb_load_bytes(w->skb, w->at, head, 1) || head[0] == 0)
		return 1;
	if (head[0] == 1) {
		w->at++;
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->at, head, 2) || head[1] < 2)
		return 1;
	if (head[0] == 2 && head[1] == 4 && !bpf_skb_load_bytes(w->skb, w->at + 2, mss, sizeof(mss)))
		w->out.mss = (__u32)mss[0] << 8 | mss[1];
	if (head[0] == 8 && head[1] == 10 && !bpf_skb_load_bytes(w->skb, w->at + 2, ts, sizeof(ts))) {
		w->out.has_ts = 1;
		w->out.ts_val = ts[0];
		w->out.ts_ecr = ts[1];
	}
	w->at += head[1];
	return 0;
}

/* tcp_options reads MSS and timestamps. A header has at most 40 bytes of options, so 40 steps reach its end. bpf_skb_load_bytes
 * checks every offset. */
__noinline int tcp_options(struct __sk_buff *skb, const struct packet *pkt, struct tcp_options *out)
{
	struct option_walk w = { .skb = skb };

	if (!pkt || !out)
		return 0;
	w.at = pkt->l4 + sizeof(struct tcphdr);
	w.end = pkt->l4 + pkt->tcp_len;
	bpf_loop(40, option_step, &w, 0);
	*out = w.out;
	return 0;
}
