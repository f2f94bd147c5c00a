/* ICMP errors that quote the SYN of a connection attempt. */
#pragma once

#include "attempt.h"
#include "parse.h"

#define CODE(n) (1 << (n))
#define CODES 16

/* Type "destination unreachable" and the codes that end an attempt. Other codes ask for smaller packets or another source
 * address. The numbers are defined here because the kernel's ICMP headers include those of the C library. */
#define UNREACHABLE_V4 3
#define UNREACHABLE_CODES_V4                                                                                                   \
	(CODE(0) /* net */ | CODE(1) /* host */ | CODE(2) /* protocol */ | CODE(3) /* port */ | CODE(6) /* net unknown */ |    \
	 CODE(7) /* host unknown */ | CODE(9) /* net prohibited */ | CODE(10) /* host prohibited */ |                          \
	 CODE(11) /* net for this service */ | CODE(12) /* host for this service */ | CODE(13) /* prohibited */)
#define UNREACHABLE_V6 1
#define UNREACHABLE_CODES_V6                                                                                                   \
	(CODE(0) /* no route */ | CODE(1) /* prohibited */ | CODE(3) /* address */ | CODE(4) /* port */ |                      \
	 CODE(5) /* source policy */ | CODE(6) /* reject route */)

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

/* The part of a TCP header that every ICMP error quotes (RFC 792). */
struct quoted_tcp {
	__be16 source;
	__be16 dest;
	__be32 seq;
};

struct quote_v4 {
	struct icmp_header icmp;
	struct iphdr ip;
	struct quoted_tcp tcp;
};

struct quote_v6 {
	struct icmp_header icmp;
	struct ipv6hdr ip;
	struct quoted_tcp tcp;
};

_Static_assert(CODES <= 32, "a set of codes must fit an int");
_Static_assert(sizeof(struct quoted_tcp) == 8, "every ICMP error quotes this many bytes");

/* quoted_v4 and quoted_v6 read the addresses, ports and sequence number that an error quotes. */
static __always_inline bool quoted_v4(struct __sk_buff *skb, __u32 l3, struct flow_key *key, __u32 *seq)
{
	struct iphdr outer;
	struct quote_v4 q;

	if (bpf_skb_load_bytes(skb, l3, &outer, sizeof(outer)) || outer.version != 4 || outer.ihl != 5 || fragmented(&outer) ||
	    bpf_skb_load_bytes(skb, l3 + sizeof(outer), &q, sizeof(q)))
		return false;
	if (q.icmp.type != UNREACHABLE_V4 || q.icmp.code >= CODES || !(CODE(q.icmp.code) & UNREACHABLE_CODES_V4))
		return false;
	if (check_ipv4(&q.ip) != PARSED)
		return false;
	read_ipv4(key, &q.ip);
	key->client_port_be = q.tcp.source;
	key->backend_port_be = q.tcp.dest;
	*seq = bpf_ntohl(q.tcp.seq);
	return true;
}

static __always_inline bool quoted_v6(struct __sk_buff *skb, __u32 l3, struct flow_key *key, __u32 *seq)
{
	struct quote_v6 q;

	if (bpf_skb_load_bytes(skb, l3 + sizeof(struct ipv6hdr), &q, sizeof(q)))
		return false;
	if (q.icmp.type != UNREACHABLE_V6 || q.icmp.code >= CODES || !(CODE(q.icmp.code) & UNREACHABLE_CODES_V6))
		return false;
	if (check_ipv6(&q.ip) != PARSED)
		return false;
	read_ipv6(key, &q.ip);
	key->client_port_be = q.tcp.source;
	key->backend_port_be = q.tcp.dest;
	*seq = bpf_ntohl(q.tcp.seq);
	return true;
}

/* icmp_error ends the attempt whose SYN an ICMP error quotes. The error must quote the sequence number of a SYN without a
 * reply: a sender that is not on the path cannot know it, and an established connection ignores such errors (RFC 5927). The
 * packet always passes. l3: offset of its IP header. */
__noinline __u64 icmp_error(struct __sk_buff *skb, __u32 l3, __u32 v6)
{
	struct node_state *n = the_node();
	struct flow_key key = {};
	struct flow *f;
	__u32 seq = 0;

	if (!n || (v6 ? !quoted_v6(skb, l3, &key, &seq) : !quoted_v4(skb, l3, &key, &seq)) ||
	    !is_backend_port(n, key.backend_port_be))
		return decision(ACTION_PASS, REASON_FOREIGN);
	f = find_flow(&key);
	if (!f)
		return decision(ACTION_PASS, REASON_UNTRACKED);
	if (is_syn_of(f, seq))
		end_attempt(&key, f, READ_ONCE(f->state), RESULT_UNREACHABLE, bpf_ktime_get_ns());
	return decision(ACTION_PASS, REASON_FLOW);
}
