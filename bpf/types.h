/* Types that the programs and the agent share. Go uses the types that bpf2go generates from them. Padding is explicit, so that
 * both sides have the same layout. All times are CLOCK_MONOTONIC nanoseconds. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Result of a request or a connection attempt; 100 to 999 is an HTTP status, 1000 and above a gRPC code. The numbers are those of
 * breaker.Result. */
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
	RESULT_H2_REFUSED,
	RESULT_H2_RESET,
	RESULT_NAMED, /* number of named results */
};

#define STATUS_MIN 100
#define STATUS_MAX 999
#define STATUS_CLASSES 9

/* The result of a gRPC call is its code, 0 to 16, above GRPC_MIN. */
#define GRPC_MIN 1000
#define GRPC_MAX 1016
#define GRPC_CODES (GRPC_MAX - GRPC_MIN + 1)

/* Number of outcome counters: one for each named result, then 1xx to 9xx, then one for each gRPC code. */
#define OUTCOME_CLASSES (RESULT_NAMED + STATUS_CLASSES + GRPC_CODES)

/* What a program did with a packet. */
enum action {
	ACTION_PASS,
	ACTION_RESPOND, /* rewritten to a SYN-ACK or an HTTP answer */
	ACTION_ACK, /* rest of an answered request: acknowledged and discarded */
	ACTION_SWALLOW, /* discarded: packet of an answered connection that needs no reply */
	ACTION_RESET,
	ACTION_DROP,
	ACTION_MAX,
};

/* Why a program did so. Reasons from REASON_OPEN on are rejections and index policy.answers. */
enum reason {
	REASON_FOREIGN, /* no policy names the endpoint */
	REASON_SHORT, /* shorter than the lengths in its headers */
	REASON_FRAGMENT,
	REASON_IP_OPTIONS,
	REASON_EXTENSION_HEADER,
	REASON_REMOTE, /* another direction has a policy for this endpoint */
	REASON_UNTRACKED, /* to or from a backend, on a connection that is not followed */
	REASON_FLOW, /* on a followed connection, no decision needed */
	REASON_ADMITTED,
	REASON_PROBE, /* admitted with a half-open permit */
	REASON_MONITORED, /* would have been rejected, but the circuit is only monitored */
	REASON_LEASE_EXPIRED, /* would have been rejected, but the lease of the agent has expired */
	REASON_EXEMPT,
	REASON_TABLE_FULL,
	REASON_ANSWERED, /* on a connection that the kernel answered */
	REASON_ERROR, /* a helper failed after changes to the packet; it was passed or dropped */
	REASON_WITHHELD, /* new streams wait until those in flight have ended */
	REASON_OUT_OF_SEQUENCE, /* sequence numbers that the ends of a followed connection do not accept: state unchanged */
	REASON_OPEN,
	REASON_FORCED_OPEN,
	REASON_HALF_OPEN,
	REASON_CONNECTION_LIMIT,
	REASON_REQUEST_LIMIT,
	REASON_RATE_LIMIT,
	REASON_MAX,
};

#define REJECTIONS (REASON_MAX - REASON_OPEN)

/* Program that counted a packet. */
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
enum protocol {
	PROTOCOL_HTTP,
	PROTOCOL_TCP,
	PROTOCOL_HTTP2, /* of a flow whose policy has PROTOCOL_HTTP, never of a policy */
};

enum reject { REJECT_RESPOND, REJECT_RESET, REJECT_DROP, REJECT_MAX };

enum verdict_kind {
	VERDICT_CLOSED, /* admit requests and judge their outcomes */
	VERDICT_OPEN, /* reject until the deadline, then half-open with the next generation */
	VERDICT_FORCED_OPEN, /* reject */
	VERDICT_DISABLED, /* admit; outcomes are not judged */
	VERDICT_MAX,
};

enum verdict_flag {
	VERDICT_MONITOR = 1 << 0, /* admit, and count what the circuit would have rejected */
	VERDICT_OVERRIDE = 1 << 1, /* set by an operator; read by the next agent process */
};

/* Address and port of a backend; IPv4 is mapped to ::ffff:a.b.c.d. An endpoint can have one circuit per direction. */
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

/* Key of a connection, with the addresses that the hooks see. */
struct flow_key {
	__u8 client[16];
	__u8 backend[16];
	__be16 client_port_be;
	__be16 backend_port_be;
};

/* Phases of a connection. Each change is a compare-and-swap of flow.state, so exactly one packet, on any CPU, ends a handshake
 * or a connection. */
enum phase {
	PHASE_NONE,
	PHASE_SYN, /* SYN admitted, no reply yet */
	PHASE_ACCEPTED, /* SYN-ACK of the backend seen, ACK of the client not yet */
	PHASE_OPEN, /* established */
	PHASE_TUNNEL, /* established, upgraded to another protocol: no more requests */
	PHASE_EXPIRED, /* handshake timed out: not counted in target.connections */
	PHASE_GONE, /* being deleted */
};

/* States of a request. Each change is a compare-and-swap of request.state, so exactly one packet ends a request. */
enum request_state {
	REQUEST_NONE,
	REQUEST_WAIT, /* no response yet */
	REQUEST_RESPONDED, /* response after the client's FIN: final unless the client sends a RST */
};

/* How the end of a message is determined. */
enum framing {
	FRAMING_UNKNOWN, /* unknown: the head is not readable, or the body ends with the connection */
	FRAMING_LENGTH, /* by a length */
	FRAMING_CHUNKED, /* by the last chunk */
};

enum flow_flag {
	FLOW_CLIENT_FIN = 1 << 0,
	FLOW_BACKEND_FIN = 1 << 1,
	FLOW_ANSWERING = 1 << 2, /* a packet of the backend was seen */
	FLOW_JOINED = 1 << 3, /* followed from data on: the SYN was not seen */
	FLOW_COUNTED = 1 << 4, /* counted in would_reject: the next request (tcp: all later data) is not counted again */
	FLOW_CLIENT_FIN_AHEAD = 1 << 5, /* a FIN of the client came ahead of a gap: client_fin is its sequence number */
	FLOW_BACKEND_FIN_AHEAD = 1 << 6, /* a FIN of the backend came ahead of a gap: see backend_fin */
	FLOW_USED = 1 << 7, /* the backend has sent at least one response */
	FLOW_WITHHELD = 1 << 8, /* HTTP/2: data of the client are withheld */
};

enum request_flag {
	REQUEST_PERMIT = 1 << 0, /* holds a half-open permit */
	REQUEST_RESERVED = 1 << 1, /* the permit is reserved for the first request of the connection */
	REQUEST_RACED = 1 << 2, /* the backend had sent a FIN before the request was sent */
};

/* A pending request or connection attempt. A flow holds one; a multiplexed protocol would keep its requests in a map. */
struct request {
	__u64 state; /* enum request_state, and a count of changes above it */
	__u64 started; /* time of admission */
	__u64 sent; /* time of its last byte */
	__u64 responded; /* REQUEST_RESPONDED: time of the response */
	__u32 circuit;
	__u32 generation; /* generation that admitted it; 0 = not judged */
	__u32 start; /* sequence number of its first byte */
	__u32 flags; /* enum request_flag */
	__u32 status; /* REQUEST_RESPONDED: the status */
	__u32 pad;
};

enum line {
	LINE_INSIDE,
	LINE_BEGUN, /* after a line feed */
	LINE_RETURN, /* after a line feed and a carriage return */
};

#define STATUS_LINE 12 /* "HTTP/1.1 200" */

/* What the backend has sent before the client's first bytes. */
enum greeting {
	GREETING_NONE,
	GREETING_FRAMES, /* frames of HTTP/2 from a SETTINGS frame on: the next one begins at http1_state.response_end */
	GREETING_OTHER,
};

/* Upgrade of a connection to HTTP/2. */
enum upgrade {
	UPGRADE_NONE,
	UPGRADE_REQUESTED, /* by the pending request */
	UPGRADE_ACCEPTED, /* the backend has sent 101: inside its head */
	UPGRADE_DONE, /* the head has ended: frames follow */
};

/* Protocol state of an HTTP/1.x flow. */
struct http1_state {
	__u64 client_tail; /* last 8 bytes of a chunked request that were sent so far */
	__u64 backend_tail; /* last 8 bytes of a chunked response that were sent so far */
	__u32 request_end; /* sequence number after the last request; FRAMING_CHUNKED: after client_tail */
	__u32 response_end; /* sequence number after the last response; FRAMING_CHUNKED: after backend_tail; see greeting */
	__u8 head[STATUS_LINE]; /* start of the response's status line; before a request: header of a frame */
	__u8 head_len;
	__u8 line; /* enum line: position in an interim head */
	__u8 interim; /* 1: inside an interim head (1xx) */
	__u8 method; /* enum method, of the pending request */
	__u8 request_framing; /* enum framing */
	__u8 response_framing;
	__u8 maybe_request; /* 1: data that may be a request was taken for a body */
	__u8 preface; /* bytes of the preface of HTTP/2 with which the connection began */
	__u8 greeting; /* enum greeting */
	__u8 upgrade; /* enum upgrade */
	__u8 pad[2];
};

/* Fields that the walk of a header block looks for. */
enum hpack_field {
	HPACK_OTHER, /* any other field */
	HPACK_STATUS,
	HPACK_GRPC_STATUS,
	HPACK_CONTENT_TYPE,
	HPACK_METHOD,
	HPACK_HIDDEN = 7, /* any field: its name is in an entry of the table that the walk does not know */
	HPACK_FIELDS, /* a power of two: the number of a field is bounded by a mask */
};

/* Values of these fields: 12 bits. */
enum hpack_value {
	HPACK_ABSENT = 0, /* the block does not have the field */
	/* HPACK_STATUS: 100 to 999 */
	HPACK_GRPC_OK = 1, /* HPACK_GRPC_STATUS: the code is the distance from HPACK_GRPC_OK, 0 to 16 */
	HPACK_CONTENT_GRPC = 1, /* HPACK_CONTENT_TYPE: begins with "application/grpc" */
	HPACK_CONTENT_OTHER = 2,
	HPACK_METHOD_HEAD = 1,
	HPACK_METHOD_OTHER = 2,
	HPACK_UNKNOWN = 0xfff, /* not a value of the field, two that differ, or possibly hidden */
};

#define HPACK_RING 16
#define HPACK_KEPT 16

/* State of one direction of an HTTP/2 connection: the header block that is being read, and what is known of the dynamic
 * table. All zeros is the state of a new connection. */
struct hpack {
	__u64 insertions; /* number of the latest insertion into the table, from 1 on */
	__u64 forgotten; /* the latest insertion that is not in ring and may be of a field that the walk looks for, 0 = none */
	__u64 ring[HPACK_RING]; /* insertions of such fields: their number above their entry */
	__u8 kept[2 * HPACK_KEPT]; /* first bytes of the string, in the first half: words written to it may extend beyond */
	__u16 values[HPACK_FIELDS]; /* enum hpack_value, of the block */
	__u32 number; /* integer so far; in a string: bytes left of it */
	__u32 length; /* length of the string */
	__u8 phase; /* enum hpack_phase */
	__u8 flags; /* enum hpack_flag, of the representation */
	__u8 field; /* enum hpack_field, of the representation */
	__u8 kept_len; /* bytes of the string in kept */
	__u8 shift; /* bits of the integer so far, without its prefix */
	__u8 next; /* counts the insertions in ring */
	__u8 unresolved; /* 1: a field of the block is in an entry that the walk does not know */
	__u8 broken; /* 1: this is not HPACK, and nothing after it can be read */
};

/* What a walk over the frames of a connection reads next. */
enum frames_phase {
	FRAMES_HEADER, /* the header of a frame */
	FRAMES_FIELDS, /* fields at the beginning of the payload, see frames.want */
	FRAMES_BLOCK, /* a part of a header block */
	FRAMES_SKIP, /* the rest of the payload */
	FRAMES_LOST, /* the boundaries of frames are not known */
	FRAMES_BROKEN, /* not HTTP/2: nothing more is read */
};

#define FRAME_HEADER 9 /* size of the header of a frame */

/* Position of a walk over the frames of one direction of an HTTP/2 connection. It resumes at any byte. */
struct frames {
	__u32 next; /* sequence number of the next byte to read */
	__u32 left; /* bytes of the payload that are not read yet */
	__u32 stream; /* of the current frame */
	__u32 block_stream; /* stream of a header block that a CONTINUATION must continue, 0 = none */
	__u8 head[16]; /* header of the frame, or the fields of its payload */
	__u8 have; /* bytes in head */
	__u8 want; /* FRAMES_FIELDS: number of bytes */
	__u8 type;
	__u8 flags;
	__u8 phase; /* enum frames_phase */
	__u8 padding; /* bytes at the end of the payload */
	__u8 block_type; /* type and flags of the frame that began the header block */
	__u8 block_flags;
	__u32 busy; /* 1: a CPU is reading. Another one that meets a packet of the same direction does not read it. */
	__u32 pad;
	struct hpack hpack;
};

/* Who closed an HTTP/2 connection, which decides the outcome of its pending streams. */
enum closer {
	CLOSER_NONE, /* it is open */
	CLOSER_CLIENT,
	CLOSER_BACKEND,
	CLOSER_UNKNOWN,
};

/* State of an HTTP/2 connection. It outlives its flow until the sweep has ended its streams. */
struct http2_connection {
	struct frames client;
	struct frames backend;
	__u64 client_left; /* time of the client's FIN, 0 = none */
	__u64 closed; /* time of its end */
	__u64 withheld; /* time from which requests are withheld, 0 = none are */
	__u32 closer; /* enum closer */
	__u32 acked; /* at its end: highest acknowledgement by the backend */
	__u32 streams; /* entries in streams */
	__u32 last_stream; /* the client's latest */
	__u32 goaway; /* streams above are not processed by the backend */
	__u32 used; /* 1: the backend has responded on a stream */
	__u32 permits; /* half-open permits that its streams hold */
	__u32 permit_generation; /* generation of the latest */
	__u32 greeted; /* 1: the backend has sent its first frames */
	__u32 epoch; /* changes when frames were missed */
	__u32 grpc; /* 1: the latest known request is of gRPC */
	__u32 pad;
};

struct stream_key {
	__u64 connection; /* key in http2_connections */
	__u32 stream;
	__u32 pad;
};

enum stream_flag {
	STREAM_RESPONDED = 1 << 0, /* response headers seen */
	STREAM_GRPC = 1 << 1, /* the outcome is in the trailers */
	STREAM_MAYBE_GRPC = 1 << 2, /* the outcome is in the trailers if they have a gRPC status */
};

/* A stream of an HTTP/2 connection, from its admission until the backend has ended it. */
struct stream {
	struct request request;
	struct flow_key key; /* of its connection */
	__u32 flags; /* enum stream_flag */
	__u32 epoch; /* http2_connection.epoch when it was last known to be followed */
	__u32 pad;
};

/* An HTTP/2 flow. Its state is in http2_connections, because the state of most flows is smaller. */
struct http2_flow {
	__u64 connection; /* key in http2_connections, 0 = none yet */
};

struct flow {
	__u64 state; /* enum phase, and a count of changes above it */
	__u64 last_seen; /* time of the last packet, coarse clock */
	struct request request;
	__u32 flags; /* enum flow_flag */
	__u32 target;
	__u32 isn; /* the client's */
	__u32 client_end; /* sequence number after the client's data in order */
	__u32 client_max; /* sequence number after the client's data, beyond gaps */
	__u32 client_fin; /* FLOW_CLIENT_FIN_AHEAD: sequence number of the FIN */
	__u32 client_ack; /* highest acknowledgement by the client */
	__u32 acked; /* highest acknowledgement by the backend */
	__u32 backend_end; /* sequence number after the backend's data, beyond gaps */
	__u32 backend_fin; /* FLOW_BACKEND_FIN_AHEAD: sequence number of the FIN */
	__u32 backend_next; /* sequence number of the next response byte that the observer reads */
	__u32 ingress_ifindex; /* interface that the client's packets enter through, 0 = this host */
	__u32 egress_ifindex; /* interface that they leave through */
	__u32 requests;
	__u16 mss; /* the client's, 0 = not seen */
	__u8 protocol;
	__u8 ahead[2]; /* by side: 1 = packets ahead of a gap are kept, see ahead.h */
	__u8 pad[3];
	struct http1_state http1;
	struct http2_flow http2;
};

/* A connection that the kernel answered: state to discard the rest of its request and to send the answer again. */
struct answered_flow {
	__u64 until; /* time of the next admission, for Retry-After */
	__u32 start; /* sequence number of the first byte of the answer */
	__u32 next; /* sequence number after the FIN of the answer */
	__u32 answer; /* index in answers, ANSWER_NONE for a bare FIN */
	__u32 isn; /* the client's */
	__u32 pad;
	__u8 head_only; /* 1: the answer has no body */
	__u8 had_backend; /* 1: the backend had the connection and got a reset */
	__u8 kept; /* 1: it is an HTTP/2 connection, whose state is in kept */
	__u8 pad2;
};

#define ANSWER_NONE 0xffffffff

/* Frames that the kernel sends on an HTTP/2 connection that it answers. */
enum reply_kind {
	REPLY_GREETING, /* SETTINGS and WINDOW_UPDATE, the first frames of a connection, or SETTINGS alone */
	REPLY_SETTINGS, /* SETTINGS with ACK */
	REPLY_PING, /* PING with ACK: values are its eight bytes */
	REPLY_WINDOW, /* WINDOW_UPDATE of the connection: the increment */
	REPLY_ANSWER, /* an answer: its stream, the seconds of Retry-After */
	REPLY_HEAD, /* an answer without its body: the same */
	REPLY_GOAWAY, /* GOAWAY and FIN: the last stream that was answered, an error code */
	REPLY_FIN, /* FIN alone */
};

/* A frame or several frames that were sent to a client, such that they can be sent again. */
struct http2_reply {
	__u16 len; /* bytes, without the FIN */
	__u16 kind; /* enum reply_kind */
	__u32 answer; /* index in answers */
	__u32 sum; /* answer.sum when the reply was made */
	__u32 data; /* client.next before the packet that it replies to */
	__u32 values[2]; /* see enum reply_kind; in the order of the machine, REPLY_PING: as in the packet */
};

#define REPLIES 64

/* An HTTP/2 connection that the kernel answers. */
struct kept_connection {
	struct frames client;
	__u64 repeated; /* time at which replies were sent again, 0 = never */
	__u64 ending; /* time of the first answer after the circuit had ceased to reject, 0 = none */
	__u32 target;
	__u32 reason; /* why the SYN was answered */
	__u32 isn; /* the client's */
	__u32 start; /* sequence number of the reply at tail */
	__u32 next; /* sequence number after all replies */
	__u32 acked; /* highest acknowledgement by the client */
	__u32 acknowledged; /* latest acknowledgement of the client's data */
	__u32 head; /* counts the replies that were made */
	__u32 tail; /* counts the replies that the client has acknowledged */
	__u32 cursor; /* number of the reply to send next */
	__u32 cursor_seq; /* its sequence number */
	__u32 limit; /* bytes of replies in a segment */
	__u32 last_stream; /* the latest that was answered */
	__u32 block_size; /* bytes of the frames of a header block */
	__u32 received; /* bytes of DATA frames since the last REPLY_WINDOW */
	__u8 begun; /* 1: the client has sent enough to know that it speaks HTTP/2 */
	__u8 grpc; /* 1: the latest known request is of gRPC */
	__u8 closed; /* 1: a FIN is among the replies */
	__u8 client_fin; /* 1: the client has sent a FIN, at client.next */
	__u8 had_backend; /* 1: the backend had the connection and got a reset */
	__u8 greeted; /* 1: the greeting is among the replies, or the backend has sent its own */
	__u8 closing; /* 1: GOAWAY and FIN follow the first answers, because streams of the backend were cut off */
	__u8 pad;
	struct http2_reply replies[REPLIES]; /* by number modulo REPLIES */
	__u32 pad2;
};

/* Constants that the agent uses as well. */
enum size {
	ANSWER_MAX = 1200, /* size of an answer in bytes */
	RETRY_DIGITS = 8, /* size of its Retry-After field in bytes */
	JUDGED_BITS = 40, /* low bits of verdict.judged, which count outcomes */
	SHARE_BITS = 24, /* bits of a share in verdict.ramp_from and ramp_to */
	LATENCY_BITS = 16, /* the first latency bucket ends at 2^16 ns */
};

/* The response that the kernel sends to a rejected client. The agent renders it.
 *
 * In HTTP/1.x the head is the status line and the headers. In HTTP/2 it is a HEADERS frame, and the body a DATA frame with
 * END_STREAM; an answer without a body is the HEADERS frame alone, with END_STREAM. Its stream identifiers are 0: the kernel
 * writes the stream's, four bytes in network order, at offset 5 and, if there are two frames, at head_len + 5. If it sends the head
 * of two frames alone, it sets END_STREAM in the flags, the byte at offset 4.
 *
 * sum and head_sum are those of the bytes as they are here, so the kernel adds: for a stream identifier at an odd offset its sum
 * with the two bytes swapped, at an even one its sum (offset 5 is odd, head_len is of any parity); 1, in the order of the machine,
 * for END_STREAM; and the difference of the Retry-After field, which is at an even offset. */
struct answer {
	__u32 len; /* head and body */
	__u32 head_len; /* head only, for HEAD */
	__u32 sum; /* folded one's complement sum of len bytes, with the Retry-After field as rendered */
	__u32 head_sum;
	__u32 retry_at; /* offset of RETRY_DIGITS bytes, even; 0 = none */
	__u32 retry_pad; /* byte that stands before the digits: a blank in HTTP/1.x, '0' in HTTP/2 */
	__u32 status; /* gRPC: 200 */
	__u32 frames; /* 0: HTTP/1.x; 1: a HEADERS frame; 2: a HEADERS and a DATA frame */
	__u8 bytes[ANSWER_MAX];
};

struct policy {
	__u64 failure[16]; /* bit r of word r / 64: result r is a failure */
	__u64 ignore[16];
	__u64 slow; /* ns; 0 = nothing is slow */
	__u64 timeout; /* ns; 0 = never */
	__u64 connect_timeout; /* ns; 0 = never */
	__u64 patience; /* ns after which a client that closes counts as an outcome; 0 = never */
	__u64 rate_interval; /* ns between two permissions of the rate limiter; 0 = no limit */
	__u64 rate_burst; /* ns of credit: (burst - 1) x interval */
	__u32 max_connections; /* 0 = no limit, as the next two */
	__u32 max_requests;
	__u32 max_requests_per_connection;
	__u32 flags;
	__u32 answers[REJECTIONS]; /* index in the answers map, by reason - REASON_OPEN: HTTP/1.x */
	__u32 http2_answers[REJECTIONS]; /* HTTP/2 */
	__u32 grpc_answers[REJECTIONS]; /* HTTP/2, the request's content type is gRPC */
	__u8 direction;
	__u8 protocol;
	__u8 reject;
	__u8 existing;
	__u32 id; /* key in exempt_sources */
};

enum policy_flag {
	POLICY_EVERY = 1 << 0, /* every outcome needs an event */
	POLICY_EXEMPT_SOURCES = 1 << 1, /* some clients are exempt: exempt_sources has them */
	POLICY_EXEMPT_NODE = 1 << 2, /* the node's own health checks are exempt */
};

/* verdict.judged counts outcomes in its low bits and outcomes with an event above them. One fetch-and-add gives an outcome its
 * ordinal and its number among the events, so no lock is needed. */
#define JUDGED_EVENT (1ULL << JUDGED_BITS)

/* verdict.permits: permits used in the low half, permits in flight in the high half. */
#define PERMIT_USED 1ULL
#define PERMIT_INFLIGHT (1ULL << 32)

struct verdict {
	__u64 until; /* open: the deadline. forced-open, disabled: end of the override, 0 = none */
	__u64 permits;
	__u64 judged;
	__u64 failures;
	__u64 slow; /* slow successes */
	__u64 duration; /* ns, sum over judged outcomes */
	__u64 ramp_over; /* ns; 0 = probes instead */
	__u32 ramp_from; /* share of SHARE_ALL */
	__u32 ramp_to;
	__u32 generation;
	__u32 calls;
	__u32 concurrent;
	__u8 kind;
	__u8 flags;
	__u16 step; /* step of the backoff; read by the next agent process */
};

#define SHARE_ALL (1U << SHARE_BITS)

#define LATENCY_BUCKETS 20 /* 64 us x 2^n; the last bucket has no upper bound */

/* Connections under an http policy that begin with something else than a request, or are not readable. */
enum opening {
	OPENING_TLS,
	OPENING_MALFORMED_HTTP2, /* the preface of HTTP/2, and later frames that are not readable */
	OPENING_PROXY, /* PROXY protocol header: skipped, a request may follow */
	OPENING_OTHER,
	OPENING_MAX,
};

/* Admission state for connections: one for a backend in a direction, or for all backends of a policy with a shared circuit. It
 * limits connections and requests. Each target has one circuit, at the same index. */
struct target {
	__u32 policy;
	__u32 circuit; /* circuit of its requests */
	__u64 connections; /* open, or being opened */
	__u64 rate_next; /* theoretical arrival time of the rate limiter (GCRA) */
};

/* Admission state for requests: verdict, permits and totals. */
struct circuit {
	__u64 published; /* bit 0: slot in force. One store by the agent publishes a verdict. */
	struct verdict slots[2];
	__u32 policy; /* index of the policy that judges its outcomes: the target's */
	__u32 pad;
	__u64 owner; /* hash of the policy's name; read by the next agent process */
	__u64 requests; /* in flight */
	__u64 pending_since; /* start of the oldest pending request that sweep pending_sweep found */
	__u64 pending_sweep;
	__u64 answering_until; /* until then clients may send packets that acknowledge a cookie */
	__u64 admitted; /* requests (http), connections (tcp) */
	__u64 probes;
	__u64 over_admitted; /* admitted without a permit or over a limit, because they shared a packet with an admitted one */
	__u64 takeovers; /* HTTP/2 connections that were ended to reject new streams */
	__u64 unjudged;
	__u64 rejected[REJECTIONS][REJECT_MAX];
	__u64 would_reject[REJECTIONS];
	__u64 outcomes[OUTCOME_CLASSES];
	__u64 openings[OPENING_MAX];
	__u64 latency[LATENCY_BUCKETS];
	__u64 latency_sum; /* ns */
};

/* State of the node. The programs write the counts, the agent all other fields. */
struct node_state {
	__u64 lease_until;
	__u64 secret[2]; /* key of the initial sequence numbers */
	__u64 flow_count;
	__u64 flow_max;
	__u64 flow_reserve; /* part of flow_max that only flows with a permit or a reservation may use */
	__u64 lost_events;
	__u64 lease_expired; /* admissions because the lease had expired */
	__u64 kubepods; /* cgroup id of all pods, 0 = none */
	__u32 kubepods_level;
	__u32 flags;
	__u64 sweeps;
	__u64 answering_until; /* latest answering_until of all circuits, for SYNs answered on entry */
	__u64 keeping_until; /* until then packets may belong to connections in kept */
	__u64 http2_keys; /* keys of http2_connections that were used */
	__u64 http2_count; /* entries in http2_connections */
	__u64 sweep_requested; /* 1: an EVENT_SWEEP was sent after the latest sweep began */
	__u64 ports[1024]; /* bit p of word p / 64: a backend listens on port p */
};

enum node_flag {
	NODE_TRACE = 1 << 0, /* a client reads traces: every outcome needs an event */
	NODE_HOST_BACKENDS = 1 << 1, /* a backend is an address of this node */
	NODE_REJECT_AT_ENTRY = 1 << 2, /* reject clients on the interface through which they enter */
	NODE_NAT_ON_LO = 1 << 3, /* a backend is on this host, and lo accepts answers that pass through NAT */
};

enum event_kind {
	EVENT_OUTCOME,
	EVENT_PROBE, /* a permit was taken */
	EVENT_RETURN, /* a reserved permit was returned unused */
	EVENT_LEARN, /* a SYN to an unknown backend of a CIDR */
	EVENT_SWEEP, /* a sweep would end streams now */
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
	__u64 began; /* time of admission */
	__u64 sent; /* time of its last byte, from which the latency counts */
	__u64 judged; /* verdict.judged before this outcome */
	__u64 duration; /* verdict.duration including this outcome */
	__u32 circuit;
	__u32 generation;
	__u16 result;
	__u8 kind;
	__u8 flags;
	struct flow_key flow;
};

struct sweep_args {
	__u64 now; /* 0 = read the clock */
	__u64 idle; /* remove flows without a packet for longer than this, ns */
	__u64 removed_ifindex; /* interface whose flows are removed, 0 = none */
	__u64 flows; /* out: flows left */
	__u64 due; /* out: time of the earliest pending time-out; 0 = none */
};

/* A backend whose neighbour or next hop failed to resolve. */
struct unreachable_backend {
	__u32 target;
	__u32 ended; /* out: attempts that were ended */
};

struct unreachable_args {
	__u64 now; /* time at which the agent learned of the failure */
	__u32 ended; /* out: attempts that were ended */
	__u32 unseen; /* out: backends with an attempt that no hook saw */
};

/* Assumptions about the constants and structs above. */
#define IS_POWER_OF_2(n) ((n) && !((n) & ((n) - 1)))
#define BITS_OF(member) (8 * sizeof(member))

_Static_assert(BITS_OF(((struct policy *)0)->failure) > GRPC_MAX, "every result has a bit in a set of results");
_Static_assert(BITS_OF(((struct policy *)0)->ignore) > GRPC_MAX, "every result has a bit in a set of results");
_Static_assert(RESULT_NAMED <= STATUS_MIN && STATUS_MAX < GRPC_MIN, "a result is a name, a status or a code");
_Static_assert(STATUS_CLASSES == STATUS_MAX / 100, "every status has a class");
_Static_assert(REASON_MAX == REASON_RATE_LIMIT + 1, "rejections are the last reasons");
_Static_assert(IS_POWER_OF_2(OPENING_MAX), "an opening is bounded by a mask");
_Static_assert(PHASE_GONE <= 0xff && REQUEST_RESPONDED <= 0xff, "a state is the low byte of its word");
_Static_assert(JUDGED_BITS < 64 && SHARE_BITS < 32, "a count and a share fit their words");
_Static_assert(IS_POWER_OF_2(HPACK_RING) && IS_POWER_OF_2(HPACK_FIELDS), "an insertion and a field are bounded by a mask");
_Static_assert(HPACK_UNKNOWN > STATUS_MAX, "no status is unknown");
_Static_assert(EVENT_MAX <= 0xff && VERDICT_MAX <= 0xff && REJECT_MAX <= 0xff, "kinds fit a byte");
_Static_assert(IS_POWER_OF_2(REPLIES), "a reply is found by a mask");
_Static_assert(sizeof(struct flow_key) == 36, "a key has no padding: all its bytes are compared");
_Static_assert(sizeof(struct endpoint) == 20, "a key has no padding: all its bytes are compared");
_Static_assert(sizeof(struct event) % 8 == 0, "records of the ring are aligned to 8 bytes");
_Static_assert(sizeof(struct answer) % 8 == 0 && sizeof(struct policy) % 8 == 0, "an array aligns its elements to 8 bytes");
_Static_assert(sizeof(struct verdict) % 8 == 0 && sizeof(struct circuit) % 8 == 0 && sizeof(struct target) % 8 == 0,
	       "64-bit words are aligned for atomic access by the agent");
