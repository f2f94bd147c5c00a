/* Stages: programs that continue with a packet after egress, ingress or loopback has parsed it and has found its connection. A
 * tail call starts a stage with an empty stack, and the verifier checks each stage alone. */
#pragma once

#include "count.h"
#include "hpack.h"
#include "packet.h"
#include "verdict.h"

enum stage_index {
	STAGE_CLIENT_HTTP2, /* data of a client on an HTTP/2 connection */
	STAGE_BACKEND_HTTP2, /* data of a backend on an HTTP/2 connection */
	STAGE_KEPT_HTTP2, /* a packet of a client on an HTTP/2 connection that the kernel answers */
	STAGE_REJECT_HTTP2, /* a new stream that is rejected on an HTTP/2 connection */
	STAGE_MAX,
};

/* Programs by enum stage_index. Written by the agent. A call of an empty place fails; the packet then passes. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_MAX);
	__type(key, __u32);
	__type(value, __u32);
} stages SEC(".maps");

/* A walk over the payload of a packet. */
struct walk {
	__u64 now;
	__u32 first; /* sequence number of offset 0 of the packet, if it were one */
	__u32 at; /* offset in the packet of the next byte to read; beyond 2^31: before the packet, see bytes_left */
	__u32 end; /* offset in the packet of the end of the payload */
	__u32 base; /* offset in the packet of the window */
	__u32 fill; /* bytes in the window */
	__u32 frame_at; /* offset in the packet of the first byte of the current frame's header */
	__u32 frame_have; /* bytes of that header that came in earlier packets */
	__u32 fresh; /* stream that this packet has begun */
	__u32 taken; /* 1: a stream that began in this packet was admitted */
	__u32 stop; /* 1: stop before frame_at */
	__u32 reason; /* why */
	__u32 chunk; /* what is read is the chunk before this one, and not the packet; 0 = the packet: see ahead.h */
	__u32 reach; /* sequence number after the packet and the chunks that were read */
	__u32 pad;
	__u8 window[WINDOW + WINDOW_ROOM];
};

/* The segment of replies that is being written. */
struct replies {
	__u64 sum; /* of the bytes written so far */
	__u32 payload; /* offset of the payload in the packet */
	__u32 len; /* bytes written so far */
	__u32 end; /* number of the reply after the last one of the segment */
	__u32 bytes; /* bytes of the segment */
	__u32 fin;
	__u32 failed;
};

/* A walk over a packet on a connection that the kernel answers. */
struct keep {
	__u64 retry; /* seconds until the next admission */
	__u32 reason; /* why streams are rejected; no rejection: they are not */
	__u32 answered; /* streams of this packet that were answered */
	__u32 room; /* bytes left in the last segment of replies */
	__u32 segments; /* segments of replies */
	__u32 reset; /* 1: there is no answer */
	__u32 count_only; /* 1: streams are counted as reset, not answered */
};

/* What a stage works on. */
struct stage {
	struct packet pkt;
	__u64 argument; /* low half of the decision that called the stage */
	struct packet saved; /* the packet, while a copy passes these hooks and may start a stage */
	struct walk walk;
	struct replies replies;
	struct keep keep;
};

/* The packet that a stage continues with. Per CPU is safe: TC programs do not preempt each other on a CPU, and no program reads
 * it after a call that sends a packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stage);
} stage_packet SEC(".maps");

static __always_inline struct stage *this_stage(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stage_packet, &zero);
}

static __always_inline bool calls_stage(__u64 d)
{
	return d >> 32 >= TODO_HTTP2_CLIENT;
}

/* next_stage continues with another stage. It returns only if that fails. */
static __always_inline __u64 next_stage(struct __sk_buff *skb, struct stage *s, __u64 d)
{
	s->argument = (__u32)d;
	bpf_tail_call(skb, &stages, (d >> 32) - TODO_HTTP2_CLIENT);
	return pass(REASON_ERROR);
}

/* call_stage continues with a stage. It returns only if that fails. */
static __always_inline __u64 call_stage(struct __sk_buff *skb, const struct packet *pkt, __u64 d)
{
	struct stage *s = this_stage();

	if (!s)
		return pass(REASON_ERROR);
	s->pkt = *pkt;
	return next_stage(skb, s, d);
}
