/* Everything that the programs and the agent share. The agent uses the Go types generated from these; padding is
 * explicit so that both see the same bytes. All times are CLOCK_MONOTONIC nanoseconds. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* How a request or a connection attempt ended. 100..999 is an HTTP status. Same numbers as breaker.Result. */
enum result {
	RESULT_NONE,
	RESULT_CONNECTED,
	RESULT_CONNECT_REFUSED,
	RESULT_CONNECT_TIMEOUT,
	RESULT_RESET,
	RESULT_TIMEOUT,
	RESULT_ABORTED,
	RESULT_UNKNOWN,
	RESULT_ABANDONED,
	RESULT_RACED,
	RESULT_UNREACHABLE,
	RESULT_NAMED, /* length of the named part */
};

#define STATUS_MIN 100
#define STATUS_MAX 999

/* Counters of outcomes: the named results, then 1xx..9xx. */
#define OUTCOME_CLASSES (RESULT_NAMED + 9)

/* What was done with a packet. */
enum action {
	ACTION_PASS,
	ACTION_RESPOND, /* turned into a SYN-ACK or an HTTP answer */
	ACTION_ACK, /* the rest of an answered request: acknowledged and thrown away */
	ACTION_SWALLOW, /* belongs to an answered connection and needs no reply */
	ACTION_RESET,
	ACTION_DROP,
	ACTION_MAX,
};

/* Why. Those from REASON_OPEN on are rejections, and index policy.answers. */
enum reason {
	REASON_FOREIGN, /* no policy names it */
	REASON_SHORT, /* shorter than its headers say */
	REASON_FRAGMENT,
	REASON_IP_OPTIONS,
	REASON_EXTENSION_HEADER,
	REASON_REMOTE, /* entered the node elsewhere: another policy direction's business */
	REASON_UNTRACKED, /* to or from a backend, of a connection that is not followed */
	REASON_FLOW, /* of a followed connection, nothing to decide */
	REASON_ADMITTED,
	REASON_PROBE, /* admitted with a half-open permit */
	REASON_MONITORED, /* would have been rejected */
	REASON_LEASE_EXPIRED, /* would have been rejected, but the agent is gone */
	REASON_EXEMPT,
	REASON_TABLE_FULL,
	REASON_ANSWERED, /* of a connection that the kernel answered */
	REASON_ERROR, /* a helper failed half-way; the packet was let go or lost */
	REASON_OUT_OF_SEQUENCE, /* of a followed connection, with numbers that its ends would not take: it changes nothing */
	REASON_OPEN,
	REASON_FORCED_OPEN,
	REASON_HALF_OPEN,
	REASON_CONNECTION_LIMIT,
	REASON_REQUEST_LIMIT,
	REASON_RATE_LIMIT,
	REASON_MAX,
};

#define REJECTIONS (REASON_MAX - REASON_OPEN)

/* Which program counted. */
enum hook {
	HOOK_EGRESS,
	HOOK_INGRESS,
	HOOK_LOOPBACK,
	HOOK_XDP,
	HOOK_CONNECT,
	HOOK_LOOKUP,
	HOOK_MAX,
};

enum direction { DIRECTION_OUTBOUND, DIRECTION_INBOUND };
enum protocol { PROTOCOL_HTTP, PROTOCOL_TCP };
enum reject { REJECT_RESPOND, REJECT_RESET, REJECT_DROP, REJECT_MAX };

enum verdict_kind {
	VERDICT_CLOSED, /* admit and judge */
	VERDICT_OPEN, /* reject until the deadline, then half-open with the next generation */
	VERDICT_FORCED_OPEN, /* reject */
	VERDICT_DISABLED, /* admit, judge nothing */
	VERDICT_MAX,
};

enum verdict_flag {
	VERDICT_MONITOR = 1 << 0, /* admit and count what would have been rejected */
	VERDICT_OVERRIDE = 1 << 1, /* an operator's, not the policy's; for the agent that comes after */
};

/* One address and port; IPv4 as ::ffff:a.b.c.d. direction lets one endpoint have a circuit for each. */
struct endpoint {
	__u8 addr[16];
	__be16 port_be;
	__u16 direction;
};

enum backend_flag {
	BACKEND_HOST = 1 << 0, /* an address of this node itself */
	BACKEND_LOCAL_POD = 1 << 1, /* a pod of this node */
};

struct backend {
	__u32 target;
	__u32 flags;
};

/* A connection as the hooks see it. */
struct flow_key {
	__u8 client[16];
	__u8 backend[16];
	__be16 client_port_be;
	__be16 backend_port_be;
};

/* Phases of a connection. Every change is a compare-and-swap of flow.turn, so that exactly one packet, on whatever
 * CPU, ends a connection or its handshake. */
enum phase {
	PHASE_NONE,
	PHASE_SYN, /* the SYN passed, no answer yet */
	PHASE_ACCEPTED, /* the backend's SYN-ACK was seen, the client's ACK not yet */
	PHASE_OPEN, /* established */
	PHASE_TUNNEL, /* established, and no longer of its protocol: no more requests */
	PHASE_EXPIRED, /* the handshake's time ran out: the connection no longer holds a place */
	PHASE_GONE, /* being deleted */
};

/* States of a request. Every change is a compare-and-swap of request.turn, so that exactly one packet ends it. */
enum request_state {
	REQUEST_NONE,
	REQUEST_WAIT, /* no response yet */
	REQUEST_RESPONDED, /* the response came after the client's FIN: the outcome unless the client answers with a RST */
};

/* How the end of a message is known. */
enum framing {
	FRAMING_UNKNOWN, /* it is not: a head out of reach, or a body that ends with the connection */
	FRAMING_LENGTH, /* by its length: its end is known */
	FRAMING_CHUNKED, /* by its last chunk */
};

enum flow_flag {
	FLOW_CLIENT_FIN = 1 << 0,
	FLOW_BACKEND_FIN = 1 << 1,
	FLOW_ANSWERING = 1 << 2, /* a packet from the backend was seen */
	FLOW_JOINED = 1 << 3, /* its SYN was not seen */
	FLOW_COUNTED = 1 << 4, /* counted as one that would have been rejected: the next request (tcp: all) is not again */
	FLOW_CLIENT_FIN_AHEAD = 1 << 5, /* a FIN came before the data ahead of it: client_fin is its number */
	FLOW_BACKEND_FIN_AHEAD = 1 << 6, /* likewise, backend_fin */
	FLOW_USED = 1 << 7, /* the backend has responded on it */
};

enum request_flag {
	REQUEST_PERMIT = 1 << 0, /* holds a half-open permit */
	REQUEST_RESERVED = 1 << 1, /* not sent yet: the permit waits for the connection's first request */
	REQUEST_RACED = 1 << 2, /* the backend had closed the connection when it was sent */
};

/* What is pending: a request, or the attempt to connect. A flow has one; a protocol with several at once keeps them in a map. */
struct request {
	__u64 turn; /* enum request_state, and a count of changes above it */
	__u64 started; /* when it was admitted */
	__u64 sent; /* when its last byte was sent */
	__u64 responded; /* REQUEST_RESPONDED: when the response came */
	__u32 circuit;
	__u32 generation; /* in which it was admitted; 0 = not judged */
	__u32 start; /* sequence number of its first byte */
	__u32 flags; /* enum request_flag */
	__u32 status; /* REQUEST_RESPONDED: the outcome */
	__u32 pad;
};

enum line {
	LINE_INSIDE,
	LINE_BEGUN, /* after a line feed */
	LINE_RETURN, /* after a line feed and a carriage return */
};

#define STATUS_LINE 12 /* "HTTP/1.1 200" */

/* What a flow of HTTP/1 remembers. */
struct http1_state {
	__u64 client_tail; /* the last 8 bytes of a chunked request, as far as sent */
	__u64 backend_tail; /* ... of a chunked response */
	__u32 request_end; /* after the last request; FRAMING_CHUNKED: where client_tail ends */
	__u32 response_end; /* after the last response; FRAMING_CHUNKED: where backend_tail ends */
	__u8 head[STATUS_LINE]; /* of the response's status line, as far as seen */
	__u8 head_len;
	__u8 line; /* enum line: where in an interim head was read last */
	__u8 interim; /* 1: inside an interim head (1xx) */
	__u8 method; /* enum method, of the pending request */
	__u8 request_framing; /* enum framing */
	__u8 response_framing;
	__u8 doubt; /* 1: what may be a request was taken for a body */
	__u8 pad[5];
};

struct flow {
	__u64 turn; /* enum phase, and a count of changes above it */
	__u64 seen; /* last packet, coarse clock */
	struct request request;
	__u32 flags; /* enum flow_flag */
	__u32 target;
	__u32 isn; /* the client's */
	__u32 client_end; /* end of what the client sent in order */
	__u32 client_max; /* end of what it sent, gaps left out */
	__u32 client_fin; /* FLOW_CLIENT_FIN_AHEAD: sequence number of the FIN */
	__u32 client_ack; /* highest of the backend's that the client acknowledged */
	__u32 acked; /* highest of the client's that the backend acknowledged */
	__u32 backend_end; /* end of what the backend sent, gaps left out */
	__u32 backend_fin; /* FLOW_BACKEND_FIN_AHEAD: sequence number of the FIN */
	__u32 backend_next; /* sequence number of the backend's next byte to be read */
	__u32 entered; /* interface through which the client's packets come, 0 = this host */
	__u32 leaves; /* ... and through which they go on */
	__u32 requests;
	__u16 mss; /* the client's, 0 = not seen */
	__u8 protocol; /* enum protocol: which member of the union below is in use */
	__u8 pad[5];
	union {
		struct http1_state http1;
	};
};

/* A connection that the kernel answered: what it needs to throw the rest away. */
struct answered_flow {
	__u64 until; /* for Retry-After */
	__u32 start; /* sequence number of the answer's first byte */
	__u32 next; /* ... of the byte after its FIN */
	__u32 answer; /* index in answers, ANSWER_NONE for a bare FIN */
	__u32 isn; /* the client's */
	__u32 pad;
	__u16 head; /* 1: headers only */
	__u16 known; /* 1: the backend had the connection too, and was sent a reset */
};

#define ANSWER_NONE 0xffffffff

/* Numbers that the agent needs too. */
enum size {
	ANSWER_MAX = 1200, /* bytes of an answer */
	RETRY_DIGITS = 8, /* bytes of its Retry-After field */
	JUDGED_BITS = 40, /* of verdict.judged that count outcomes */
	SHARE_BITS = 24, /* of verdict.ramp_from and ramp_to */
	LATENCY_BITS = 16, /* the first latency bucket ends at 2^16 ns */
};

struct answer {
	__u32 len; /* headers and body */
	__u32 head_len; /* headers alone: what HEAD gets */
	__u32 sum; /* folded one's complement sum of all, with the Retry-After field as rendered */
	__u32 head_sum;
	__u32 retry_at; /* even offset of RETRY_DIGITS bytes, 0 = none */
	__u32 status;
	__u8 bytes[ANSWER_MAX];
};

struct policy {
	__u64 failure[16]; /* bit r of word r / 64: result r is a failure */
	__u64 ignore[16];
	__u64 slow; /* ns; 0 = nothing is slow */
	__u64 timeout; /* ns; 0 = never */
	__u64 connect_timeout; /* ns; 0 = never */
	__u64 patience; /* ns that a client waits before its leaving is an outcome of the backend; 0 = never one */
	__u64 rate_interval; /* ns between two permissions; 0 = no rate limit */
	__u64 rate_burst; /* ns of credit: (burst - 1) x interval */
	__u32 max_connections; /* 0 = no limit, as the next two */
	__u32 max_requests;
	__u32 max_requests_per_connection;
	__u32 flags;
	__u32 answers[REJECTIONS]; /* index in the answers map, by reason - REASON_OPEN */
	__u8 direction;
	__u8 protocol;
	__u8 reject;
	__u8 existing;
	__u32 id; /* for exempt sources */
};

enum policy_flag {
	POLICY_EVERY = 1 << 0, /* send every outcome through the ring */
	POLICY_EXEMPT_SOURCES = 1 << 1, /* some clients are exempt: ask exempt_sources */
	POLICY_EXEMPT_NODE = 1 << 2, /* the node's own health checks are exempt */
};

/* judged: count of outcomes in the low bits, count of those that went through the ring above. One fetch-and-add
 * gives an outcome both its ordinal and its place among the events. */
#define JUDGED_EVENT (1ULL << JUDGED_BITS)

/* permits: used in the low half, in flight in the high half. */
#define PERMIT_USED 1ULL
#define PERMIT_INFLIGHT (1ULL << 32)

struct verdict {
	__u64 until; /* open: the deadline. forced-open, disabled: end of the override, 0 = none */
	__u64 permits;
	__u64 judged;
	__u64 failures;
	__u64 slow; /* successes */
	__u64 duration; /* ns, sum over judged outcomes */
	__u64 ramp_over; /* ns; 0 = probes instead */
	__u32 ramp_from; /* share of SHARE_ALL */
	__u32 ramp_to;
	__u32 generation;
	__u32 calls;
	__u32 concurrent;
	__u8 kind;
	__u8 flags;
	__u16 step; /* of the backoff; for the agent that comes after */
};

#define SHARE_ALL (1U << SHARE_BITS)

#define LATENCY_BUCKETS 20 /* 64 us x 2^n; the last takes all that is longer */

/* What a connection of an http policy begins with that is no request. */
enum opening {
	OPENING_TLS,
	OPENING_HTTP2,
	OPENING_PROXY, /* skipped: a request may follow */
	OPENING_OTHER,
	OPENING_MAX,
};

/* What a SYN asks: a backend in a direction, or all backends of a policy that share one circuit. It limits connections and
 * requests. Today each has one circuit, at the same index. */
struct target {
	__u32 policy;
	__u32 circuit; /* what its requests ask */
	__u64 connections; /* open, or being opened */
	__u64 rate_next; /* theoretical arrival time of the rate limiter (GCRA) */
};

/* What a request asks: verdict, permits and totals. */
struct circuit {
	__u64 published; /* bit 0: which slot is in force. One store by the agent makes a verdict visible. */
	struct verdict slots[2];
	__u32 policy; /* that judges its outcomes: the target's */
	__u32 pad;
	__u64 owner; /* hash of the policy's name; for the agent that comes after */
	__u64 requests; /* in flight */
	__u64 pending_since; /* start of the oldest pending request that sweep number pending_sweep saw */
	__u64 pending_sweep;
	__u64 answering_until; /* clients whose SYN was answered where they entered may be heard of until then */
	__u64 admitted; /* requests (http), connections (tcp) */
	__u64 probes;
	__u64 unjudged;
	__u64 rejected[REJECTIONS][REJECT_MAX];
	__u64 would[REJECTIONS];
	__u64 outcomes[OUTCOME_CLASSES];
	__u64 openings[OPENING_MAX];
	__u64 latency[LATENCY_BUCKETS];
	__u64 latency_sum; /* ns */
};

/* One for the node. The agent writes all but the counts. */
struct node_state {
	__u64 lease_until;
	__u64 secret[2]; /* key of the initial sequence numbers */
	__u64 flow_count;
	__u64 flow_max;
	__u64 flow_reserve; /* of flow_max, kept for flows that hold a permit or a reservation */
	__u64 lost_events;
	__u64 lease_expired; /* admitted only because the lease had run out */
	__u64 kubepods; /* cgroup id of the pods, 0 = none */
	__u32 kubepods_level;
	__u32 flags;
	__u64 sweeps;
	__u64 answering_until; /* the latest of all circuits */
	__u64 ports[1024]; /* bit p of word p / 64: some backend listens on port p */
};

enum node_flag {
	NODE_TRACE = 1 << 0, /* somebody reads traces: send every outcome */
	NODE_HOST_BACKENDS = 1 << 1, /* some backend is an address of this node */
	NODE_REJECT_AT_ENTRY = 1 << 2, /* clients are rejected where they enter, if that is sure */
	NODE_NAT_ON_LO = 1 << 3, /* some backend is on this host, and lo takes answers that go through NAT */
};

enum event_kind {
	EVENT_OUTCOME,
	EVENT_PROBE, /* a permit was taken */
	EVENT_RETURN, /* a permit came back unused */
	EVENT_LEARN, /* a SYN to an unknown backend of a CIDR */
	EVENT_MAX,
};

enum event_flag {
	EVENT_JUDGED = 1 << 0,
	EVENT_FAILURE = 1 << 1,
	EVENT_SLOW = 1 << 2,
	EVENT_PERMIT = 1 << 3,
};

struct event {
	__u64 at;
	__u64 began; /* when it was admitted */
	__u64 sent; /* when its last byte was sent: the latency counts from there */
	__u64 judged; /* the verdict's word before this outcome */
	__u64 duration; /* the verdict's sum, this outcome included */
	__u32 circuit;
	__u32 generation;
	__u16 result;
	__u8 kind;
	__u8 flags;
	struct flow_key flow;
};

struct sweep_args {
	__u64 now; /* 0 = read the clock */
	__u64 idle; /* forget flows that were silent so long */
	__u64 gone; /* index of an interface that does not exist any more: forget its flows; 0 = none */
	__u64 flows; /* out: flows left */
	__u64 due; /* out: when the first of what is pending now will have timed out; 0 = nothing will */
};

/* A backend whose neighbour or next hop did not answer. */
struct unreachable_backend {
	__u32 target;
	__u32 ended; /* attempts that were ended because of it */
};

struct unreachable_args {
	__u64 now; /* when the agent heard of it */
	__u32 ended; /* out: attempts that were ended */
	__u32 unseen; /* out: backends for which an attempt was recorded that no hook saw */
};

/* What is assumed of the numbers and structs above. */
#define IS_POWER_OF_2(n) ((n) && !((n) & ((n) - 1)))
#define BITS_OF(member) (8 * sizeof(member))

_Static_assert(BITS_OF(((struct policy *)0)->failure) > STATUS_MAX, "every status has a bit in a set of results");
_Static_assert(BITS_OF(((struct policy *)0)->ignore) > STATUS_MAX, "every status has a bit in a set of results");
_Static_assert(RESULT_NAMED <= STATUS_MIN, "a named result is no status");
_Static_assert(OUTCOME_CLASSES == RESULT_NAMED + STATUS_MAX / 100, "the classes of statuses follow the named results");
_Static_assert(REASON_MAX == REASON_RATE_LIMIT + 1, "rejections are the last reasons");
_Static_assert(IS_POWER_OF_2(OPENING_MAX), "an opening is bounded by a mask");
_Static_assert(PHASE_GONE <= 0xff && REQUEST_RESPONDED <= 0xff, "a state is the low byte of its word");
_Static_assert(JUDGED_BITS < 64 && SHARE_BITS < 32, "a count and a share fit their words");
_Static_assert(EVENT_MAX <= 0xff && VERDICT_MAX <= 0xff && REJECT_MAX <= 0xff, "kinds fit a byte");
_Static_assert(sizeof(struct flow_key) == 36, "a key has no padding: all its bytes are compared");
_Static_assert(sizeof(struct endpoint) == 20, "a key has no padding: all its bytes are compared");
_Static_assert(sizeof(struct event) % 8 == 0, "records of the ring are aligned to 8 bytes");
_Static_assert(sizeof(struct verdict) % 8 == 0 && sizeof(struct circuit) % 8 == 0 && sizeof(struct target) % 8 == 0,
	       "the agent shares 64-bit words with the programs");
