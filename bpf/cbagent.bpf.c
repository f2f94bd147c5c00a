/* The programs of TC and those that the agent runs; other hooks have a header each. Each program parses, decides, counts and
 * returns. */
#include "backend.h"
#include "client.h"
#include "connect.h"
#include "count.h"
#include "entry.h"
#include "icmp.h"
#include "kept.h"
#include "lookup.h"
#include "nat.h"
#include "observe_http2.h"
#include "reject.h"
#include "reject_http2.h"
#include "sweep.h"
#include "unreachable.h"
#include "xdp.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Adds types to the BTF that no map's key or value refers to: the event in the ring, and enums whose constants are stored in
 * plain integers. The Go constants and the hash of the maps' layout are generated from the BTF. */
struct types {
	struct event event;
	enum result result;
	enum action action;
	enum reason reason;
	enum hook hook;
	enum direction direction;
	enum protocol protocol;
	enum reject reject;
	enum verdict_kind verdict_kind;
	enum phase phase;
	enum request_state request_state;
	enum framing framing;
	enum line line;
	enum event_kind event_kind;
	enum verdict_flag verdict_flag;
	enum backend_flag backend_flag;
	enum policy_flag policy_flag;
	enum node_flag node_flag;
	enum flow_flag flow_flag;
	enum request_flag request_flag;
	enum event_flag event_flag;
	enum opening opening;
	enum size size;
	enum frames_phase frames_phase;
	enum closer closer;
	enum stream_flag stream_flag;
	enum stage_index stage_index;
	enum hpack_field hpack_field;
	enum hpack_value hpack_value;
	enum side side;
	enum reply_kind reply_kind;
	enum greeting greeting;
	enum upgrade upgrade;
} types SEC(".data.types") __attribute__((unused));

#define TCX_NEXT (-1) /* the next program decides; clsact: TC_ACT_UNSPEC */

#define TO_BACKEND (1 << 0)
#define FROM_BACKEND (1 << 1)

/* hook_traffic returns which packets a hook sees: packets to a backend, packets from a backend, or both. */
static __always_inline __u32 hook_traffic(__u32 hook, const struct node_state *n)
{
	if (hook == HOOK_LOOPBACK || n->flags & NODE_HOST_BACKENDS)
		return TO_BACKEND | FROM_BACKEND;
	return hook == HOOK_EGRESS ? TO_BACKEND : FROM_BACKEND;
}

/* decide returns the decision about a packet, and sets flow if a client sent it on a followed connection. */
static __always_inline __u64 decide(struct __sk_buff *skb, struct packet *pkt, struct node_state *n, struct flow **flow)
{
	__u64 d = decision(ACTION_PASS, REASON_FOREIGN);

	if (pkt->hook == HOOK_INGRESS && pkt->l3 != L2_NONE && n->flags & NODE_REJECT_AT_ENTRY &&
	    is_backend_port(n, pkt->key.backend_port_be)) {
		d = decide_at_entry(skb, pkt, n);
		if (d != PASS_ON)
			return d;
	}
	if (pkt->hook == HOOK_LOOPBACK && n->flags & NODE_NAT_ON_LO && undo_nat(skb, pkt, n))
		return backend_packet(skb, pkt, n);
	if (hook_traffic(pkt->hook, n) & TO_BACKEND && is_backend_port(n, pkt->key.backend_port_be)) {
		d = client_packet(skb, pkt, n, flow);
		if (pkt->nat && is_admitted(d))
			store_nat_flow(skb, pkt);
		if (d != decision(ACTION_PASS, REASON_FOREIGN))
			return d;
	}
	if (hook_traffic(pkt->hook, n) & FROM_BACKEND && is_backend_port(n, pkt->key.client_port_be)) {
		swap_key(&pkt->key);
		d = backend_packet(skb, pkt, n);
	}
	return d;
}

/* carry_out completes a deferred decision and returns the final one. f: flow of the packet, NULL if it is not followed. */
static __always_inline __u64 carry_out(struct __sk_buff *skb, struct packet *pkt, struct flow *f, __u64 d)
{
	switch (d >> 32) {
	case TODO_REJECT_SYN:
		return reject_syn(skb, pkt, d);
	case TODO_REJECT_REQUEST:
		return reject_request(skb, pkt, f, d);
	case TODO_COOKIE_PACKET:
		return cookie_packet(skb, pkt, d);
	case TODO_ANSWERED_PACKET:
		return answered_packet(skb, pkt);
	default:
		return d;
	}
}

/* decide_icmp decides about a packet that may be an ICMP error. A hook that sees packets from backends sees these as well. */
static __always_inline __u64 decide_icmp(struct __sk_buff *skb, struct node_state *n, __u32 hook, __u32 l3, __u32 v6)
{
	return hook_traffic(hook, n) & FROM_BACKEND ? icmp_error(skb, l3, v6) : pass(REASON_FOREIGN);
}

/* finish counts the packet and returns the action for TC. */
static __always_inline int finish(struct __sk_buff *skb, __u32 hook, __u64 d, bool nat)
{
	count_packet(hook, d);
	switch (d >> 32) {
	case ACTION_PASS:
		return TCX_NEXT;
	case ACTION_RESPOND:
	case ACTION_RESET:
	case ACTION_ACK:
		/* On loopback the rewritten packet continues and returns to its sender. With NAT it must be redirected:
		 * otherwise it keeps the conntrack entry of the client's packet, and NAT changes it as one of the client. A
		 * redirected packet loses the entry, and conntrack looks it up as one of the backend. */
		if (hook == HOOK_LOOPBACK && !nat)
			return TC_ACT_OK;
		return bpf_redirect(skb->ifindex, hook == HOOK_INGRESS ? 0 : BPF_F_INGRESS);
	default:
		return TC_ACT_SHOT;
	}
}

static __always_inline int run(struct __sk_buff *skb, __u32 hook, const bool ethernet)
{
	struct node_state *n = the_node();
	__u32 l3 = L2_NONE;
	struct flow *f = NULL;
	struct packet pkt;
	struct frame fr;
	bool nat = false;
	__u64 d;

	if (!n)
		return TCX_NEXT;
	fr = skb_frame(skb, hook);
	if (ethernet)
		l3 = ethernet_len(&fr);
	if (l3 == L2_NONE)
		d = parse(&fr, n, &pkt, L2_NONE);
	else if (l3 == L2_VLAN)
		d = parse(&fr, n, &pkt, L2_VLAN);
	else
		d = parse(&fr, n, &pkt, L2_ETHERNET);
	if (d == PARSED) {
		d = decide(skb, &pkt, n, &f);
		if (d >> 32 == TODO_COOKIE_PACKET)
			d = begins_http2(skb, &pkt, d);
		if (calls_stage(d))
			d = call_stage(skb, &pkt, d);
		d = carry_out(skb, &pkt, f, d);
		nat = pkt.nat;
	} else if (d >= PARSED_ICMP_V6) {
		d = decide_icmp(skb, n, hook, l3, d == PARSED_ICMP_V6);
	}
	return finish(skb, hook, d, nat);
}

SEC("tc")
int egress(struct __sk_buff *skb)
{
	return run(skb, HOOK_EGRESS, true);
}

SEC("tc")
int egress_l3(struct __sk_buff *skb)
{
	return run(skb, HOOK_EGRESS, false);
}

SEC("tc")
int ingress(struct __sk_buff *skb)
{
	return run(skb, HOOK_INGRESS, true);
}

SEC("tc")
int ingress_l3(struct __sk_buff *skb)
{
	return run(skb, HOOK_INGRESS, false);
}

/* On egress of the loopback device, which every packet passes once, in both directions. */
SEC("tc")
int loopback(struct __sk_buff *skb)
{
	return run(skb, HOOK_LOOPBACK, true);
}

SEC("tc")
int http2_client(struct __sk_buff *skb)
{
	struct node_state *n = the_node();
	struct stage *s = this_stage();
	__u64 d;

	if (!n || !s)
		return TCX_NEXT;
	d = http2_on_client(skb, s, n);
	if (calls_stage(d))
		d = next_stage(skb, s, d);
	return finish(skb, s->pkt.hook, d, s->pkt.nat);
}

SEC("tc")
int http2_reject(struct __sk_buff *skb)
{
	struct stage *s = this_stage();

	if (!s)
		return TCX_NEXT;
	return finish(skb, s->pkt.hook, http2_on_rejection(skb, s), s->pkt.nat);
}

SEC("tc")
int http2_backend(struct __sk_buff *skb)
{
	struct node_state *n = the_node();
	struct stage *s = this_stage();

	if (!n || !s)
		return TCX_NEXT;
	return finish(skb, s->pkt.hook, http2_on_backend(skb, s, n), s->pkt.nat);
}

SEC("tc")
int http2_kept(struct __sk_buff *skb)
{
	struct node_state *n = the_node();
	struct stage *s = this_stage();

	if (!n || !s)
		return TCX_NEXT;
	return finish(skb, s->pkt.hook, http2_on_kept(skb, s, n), s->pkt.nat);
}

SEC("syscall")
int sweep(struct sweep_args *args)
{
	struct node_state *n = the_node();
	struct sweep s = {};

	if (!n)
		return 1;
	s.now = args->now ?: bpf_ktime_get_ns();
	s.idle = args->idle;
	s.removed_ifindex = args->removed_ifindex;
	s.number = __sync_fetch_and_add(&n->sweeps, 1) + 1;
	*(volatile __u64 *)&n->sweep_requested = 0;
	/* A walk visits every bucket even if the table is empty: a millisecond for half a million buckets. */
	if (READ_ONCE(n->flow_count))
		bpf_for_each_map_elem(&flows, sweep_flow, &s, 0);
	if (READ_ONCE(n->http2_count)) {
		bpf_for_each_map_elem(&streams, sweep_stream, &s, 0);
		bpf_for_each_map_elem(&http2_connections, sweep_http2, &s, 0);
	}
	args->now = s.now;
	args->flows = s.flows;
	args->due = s.due;
	return 0;
}

/* unreachable ends and records attempts for the backends in the map unreachables. */
SEC("syscall")
int unreachable(struct unreachable_args *args)
{
	struct unreachable_args a = { .now = args->now };
	struct node_state *n = the_node();

	if (!n)
		return 1;
	if (READ_ONCE(n->flow_count))
		bpf_for_each_map_elem(&flows, end_unreachable, &a, 0);
	bpf_for_each_map_elem(&unreachables, record_unseen_attempt, &a, 0);
	args->ended = a.ended;
	args->unseen = a.unseen;
	return 0;
}
