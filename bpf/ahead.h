/* Payload of packets that arrive ahead of a gap, kept until the walk over the frames of their side reaches it. It is kept in
 * chunks. What finds no room is not kept: if it is not sent again, the walk has missed frames. */
#pragma once

#include "flow.h"
#include "stage.h"

enum side { SIDE_CLIENT, SIDE_BACKEND };

#define AHEAD_CHUNK 2048 /* bytes of a chunk: a power of two; most packets are one chunk */
#define AHEAD_CHUNKS 32 /* chunks of a side: a power of two */

_Static_assert(IS_POWER_OF_2(AHEAD_CHUNK) && IS_POWER_OF_2(AHEAD_CHUNKS), "an offset and an index are bounded by masks");

struct ahead_key {
	__u64 connection;
	__u32 side; /* enum side */
	__u32 chunk;
};

struct ahead_chunk {
	struct ahead_key key; /* its own: see copy_chunk */
	__u32 seq;
	__u32 pad;
	__u8 bytes[AHEAD_CHUNK + WINDOW];
};

/* Where the chunks of a side are. */
struct ahead_side {
	__u32 seq[AHEAD_CHUNKS];
	__u32 len[AHEAD_CHUNKS]; /* 0 = no chunk */
};

/* Eviction from both maps is safe: the bytes are then missing, as if there had been no room for them. Only programs write. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ahead_key);
	__type(value, struct ahead_chunk);
} ahead_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ahead_key); /* chunk 0 */
	__type(value, struct ahead_side);
} ahead_sides SEC(".maps");

/* Buffers for new entries. Per CPU is safe for the reason given at heads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ahead_chunk);
} new_chunk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ahead_side);
} new_side SEC(".maps");

static __always_inline void ahead_key(struct ahead_key *key, __u64 connection, __u32 side, __u32 chunk)
{
	key->connection = connection;
	key->side = side;
	key->chunk = chunk;
}

static __always_inline struct ahead_side *find_side(const struct flow *f, __u32 side)
{
	struct ahead_key key;

	ahead_key(&key, f->http2.connection, side, 0);
	return bpf_map_lookup_elem(&ahead_sides, &key);
}

/* add_side adds the entry of a side without chunks. The buffer is never written, so it is all zeros. */
static __always_inline struct ahead_side *add_side(const struct flow *f, __u32 side)
{
	struct ahead_key key;
	struct ahead_side *init;
	__u32 zero = 0;

	init = bpf_map_lookup_elem(&new_side, &zero);
	if (!init)
		return NULL;
	ahead_key(&key, f->http2.connection, side, 0);
	bpf_map_update_elem(&ahead_sides, &key, init, BPF_ANY);
	return bpf_map_lookup_elem(&ahead_sides, &key);
}

struct copier {
	struct __sk_buff *skb;
	struct ahead_side *chunks;
	struct ahead_key key;
	__u32 next; /* what comes before it was read */
	__u32 at; /* offset in the packet of the next byte to keep */
	__u32 seq; /* its sequence number */
	__u32 left;
};

/* keep_chunk puts the next bytes into a chunk if it is free. */
static long keep_chunk(__u32 chunk, struct copier *k)
{
	struct ahead_side *s = k->chunks;
	struct ahead_chunk *c;
	__u32 zero = 0, n, held;

	if (!k->left)
		return 1;
	asm volatile("" : "+r"(chunk));
	chunk &= AHEAD_CHUNKS - 1;
	held = s->len[chunk];
	if (held && before(k->next, s->seq[chunk] + held)) {
		/* The packet may have been kept before. */
		n = s->seq[chunk] + held - k->seq;
		if (k->seq - s->seq[chunk] >= held)
			return 0;
		if (n > k->left)
			n = k->left;
		k->seq += n;
		k->at += n;
		k->left -= n;
		return 0;
	}
	c = bpf_map_lookup_elem(&new_chunk, &zero);
	if (!c)
		return 1;
	n = k->left < AHEAD_CHUNK ? k->left : AHEAD_CHUNK;
	n -= 1;
	asm volatile("" : "+r"(n));
	n &= AHEAD_CHUNK - 1;
	n += 1;
	k->key.chunk = chunk;
	c->key = k->key;
	c->seq = k->seq;
	if (bpf_skb_load_bytes(k->skb, k->at, c->bytes, n) || bpf_map_update_elem(&ahead_chunks, &k->key, c, BPF_ANY))
		return 1;
	s->seq[chunk] = k->seq;
	s->len[chunk] = n;
	k->seq += n;
	k->at += n;
	k->left -= n;
	return 0;
}

/* keep_ahead keeps the payload of a packet. next: up to where the side was read. */
__noinline int keep_ahead(struct __sk_buff *skb, const struct packet *pkt, struct flow *f, __u32 side, __u32 next)
{
	struct copier k = { .skb = skb, .next = next };

	if (!pkt || !f)
		return 0;
	k.at = pkt->l4 + pkt->tcp_len;
	k.seq = pkt->seq;
	k.left = pkt->payload;
	k.chunks = find_side(f, side) ?: add_side(f, side);
	if (!k.chunks)
		return 0;
	ahead_key(&k.key, f->http2.connection, side, 0);
	bpf_loop(AHEAD_CHUNKS, keep_chunk, &k, 0);
	f->ahead[side & 1] = 1;
	return 0;
}

/* search_chunks returns the number above that of the chunk that holds a byte, 0 if there is none, and sets later if a chunk
 * follows the byte. It does not branch: the verifier would follow each combination of branches. */
static __always_inline __u32 search_chunks(const struct ahead_side *s, __u32 next, __u32 *later)
{
	__u64 found = 0, any = 0;

#pragma unroll
	for (int i = 0; i < AHEAD_CHUNKS; i++) {
		__u64 len = s->len[i], offset = (__u32)(next - s->seq[i]), holds = offset - len, used = -len;

		any |= offset >> 31 & used >> 63;
		/* The compiler would make branches of these comparisons, and load all chunks before it compares any. */
		asm volatile("" : "+r"(holds), "+r"(any), "+r"(found)::"memory");
		holds = -(holds >> 63);
		found = (found & ~holds) | ((i + 1) & holds);
	}
	*later = any;
	return found;
}

/* kept_byte returns a byte that the client has sent ahead of a gap, or a negative number if it is not kept. */
__noinline int kept_byte(struct flow *f, __u32 seq)
{
	struct ahead_chunk *c;
	struct ahead_side *s;
	struct ahead_key key;
	__u32 chunk, later, at;

	if (!f)
		return -1;
	s = find_side(f, SIDE_CLIENT);
	chunk = s ? search_chunks(s, seq, &later) : 0;
	if (!chunk)
		return -1;
	ahead_key(&key, f->http2.connection, SIDE_CLIENT, chunk - 1);
	c = bpf_map_lookup_elem(&ahead_chunks, &key);
	if (!c)
		return -1;
	at = seq - c->seq;
	asm volatile("" : "+r"(at));
	return c->bytes[at & (AHEAD_CHUNK - 1)];
}

/* find_chunk moves the walk to the chunk that holds the next byte. It returns 0 if there is none. */
__noinline int find_chunk(struct walk *k, struct flow *f, __u32 side)
{
	struct ahead_side *s;
	__u32 next, chunk, later = 0;

	if (!k || !f)
		return 0;
	s = find_side(f, side);
	next = k->first + k->at;
	chunk = s ? search_chunks(s, next, &later) : 0;
	k->chunk = chunk;
	if (!s || !chunk) {
		if (!later)
			f->ahead[side & 1] = 0;
		return 0;
	}
	chunk -= 1;
	asm volatile("" : "+r"(chunk));
	chunk &= AHEAD_CHUNKS - 1;
	k->first = s->seq[chunk];
	k->at = next - k->first;
	k->end = s->len[chunk];
	k->base = k->at;
	k->fill = 0;
	return 1;
}

/* drop_chunk forgets the chunk that the walk reads, and ends the walk before its next byte. */
__noinline int drop_chunk(struct walk *k, struct flow *f, __u32 side)
{
	struct ahead_side *s;
	__u32 chunk;

	if (!k || !f)
		return 0;
	s = find_side(f, side);
	chunk = k->chunk - 1;
	asm volatile("" : "+r"(chunk));
	chunk &= AHEAD_CHUNKS - 1;
	if (s)
		s->len[chunk] = 0;
	k->end = k->at;
	return 0;
}

/* load_chunk loads the next bytes of a chunk into the window, as load_window does of a packet. Another CPU may use the memory
 * of a chunk again while it is copied; it writes the key first, so the copy is of this chunk if the key is its own
 * afterwards. */
__noinline int load_chunk(struct walk *k, struct flow *f, __u32 side)
{
	struct ahead_chunk *c;
	struct ahead_key key;
	__u32 at, n;

	if (!k || !f)
		return 0;
	n = k->end - k->at;
	ahead_key(&key, f->http2.connection, side, k->chunk - 1);
	c = bpf_map_lookup_elem(&ahead_chunks, &key);
	if (!c)
		return 0;
	at = k->at;
	asm volatile("" : "+r"(at));
	at &= AHEAD_CHUNK - 1;
#pragma unroll
	for (int i = 0; i < WINDOW; i += 8)
		*(volatile __u64 *)(k->window + i) = *(volatile __u64 *)(c->bytes + at + i);
	if (READ_ONCE(c->key.connection) != key.connection || READ_ONCE(c->key.side) != key.side ||
	    READ_ONCE(c->key.chunk) != key.chunk || READ_ONCE(c->seq) != k->first)
		return 0;
	k->base = k->at;
	k->fill = n < WINDOW ? n : WINDOW;
	return 1;
}
