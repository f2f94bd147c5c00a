/* For tests only: the walk of header blocks on many parts of blocks at once, as the walk of frames calls it. */
#include "../hpack.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum input_size { INPUT_MAX = 1 << 20 };

enum part_flag {
	PART_FORGET = 1 << 0, /* the connection begins, or something was missed */
	PART_BEGIN = 1 << 1, /* a block begins */
	PART_END = 1 << 2, /* the block ends with this part */
};

/* A part of a block; its bytes follow it. */
struct part {
	__u32 len;
	__u16 connection;
	__u16 flags;
};

/* Values in a block: enum hpack_value. */
struct block {
	__u16 status;
	__u16 grpc_status;
	__u16 content_type;
	__u16 method;
	__u16 broken;
	__u16 pad[3];
};

/* Only what is used reaches the type information from which the Go constants are made. */
struct types {
	enum input_size input_size;
	enum part_flag part_flag;
	enum hpack_value value;
} types SEC(".data.types") __attribute__((unused));

/* Parts, one after the other. */
struct input {
	__u8 bytes[INPUT_MAX + WINDOW + WINDOW_ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct input);
} inputs SEC(".maps");

/* The blocks that ended, in order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct block);
} blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct hpack);
} connections SEC(".maps");

struct cursor {
	__u32 next; /* offset of the next byte in the input */
	__u32 end; /* offset of its end */
	__u32 left; /* bytes of the part that are not in the window yet */
	__u32 at; /* offset in the window */
	__u32 filled; /* bytes of the part in the window */
	__u32 blocks; /* that have ended */
	struct part part;
	__u8 window[WINDOW + WINDOW_ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cursor);
} cursors SEC(".maps");

/* The agent's settings of a run. */
__u32 input_len;

struct walk {
	struct cursor *cursor;
	struct input *input;
};

/* fill_window reads the next bytes of the part, and what follows them: it must not matter. */
static __always_inline bool fill_window(struct cursor *c, const struct input *in)
{
	__u32 from = c->next;

	asm volatile("" : "+r"(from));
	from &= INPUT_MAX - 1;
	if (bpf_probe_read_kernel(c->window, sizeof(c->window), in->bytes + from))
		return false;
	c->at = 0;
	c->filled = c->left < WINDOW ? c->left : WINDOW;
	c->left -= c->filled;
	c->next += c->filled;
	return true;
}

static __always_inline void block_ended(struct cursor *c, struct hpack *h)
{
	__u32 n = c->blocks;
	struct block *r = bpf_map_lookup_elem(&blocks, &n);

	hpack_end(h);
	c->blocks = n + 1;
	if (!r)
		return;
	r->status = hpack_value(h, HPACK_STATUS);
	r->grpc_status = hpack_value(h, HPACK_GRPC_STATUS);
	r->content_type = hpack_value(h, HPACK_CONTENT_TYPE);
	r->method = hpack_value(h, HPACK_METHOD);
	r->broken = h->broken;
}

static __always_inline bool next_part(struct cursor *c, const struct input *in)
{
	__u32 from = c->next;

	c->part.flags = 0;
	if (from >= c->end)
		return false;
	asm volatile("" : "+r"(from));
	from &= INPUT_MAX - 1;
	if (bpf_probe_read_kernel(&c->part, sizeof(c->part), in->bytes + from))
		return false;
	c->next += sizeof(c->part);
	c->left = c->part.len;
	return true;
}

static long walk_step(__u32 step, struct walk *w)
{
	struct cursor *c = w->cursor;
	__u32 id = c->part.connection, at = c->at;
	struct hpack *h = bpf_map_lookup_elem(&connections, &id);

	if (!h)
		return 1;
	if (at < c->filled) {
		hpack_step(h, c->window, &at, c->filled);
		c->at = at;
		return 0;
	}
	if (c->left)
		return !fill_window(c, w->input);
	if (c->part.flags & PART_END)
		block_ended(c, h);
	if (!next_part(c, w->input))
		return 1;
	id = c->part.connection;
	h = bpf_map_lookup_elem(&connections, &id);
	if (!h)
		return 1;
	if (c->part.flags & PART_FORGET)
		hpack_forget(h);
	if (c->part.flags & PART_BEGIN)
		hpack_begin(h);
	return 0;
}

/* walk_blocks walks the parts in the input, and returns the number of blocks that ended. */
SEC("tc")
int walk_blocks(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct walk w = {
		.cursor = bpf_map_lookup_elem(&cursors, &zero),
		.input = bpf_map_lookup_elem(&inputs, &zero),
	};

	if (!w.cursor || !w.input)
		return -1;
	w.cursor->next = 0;
	w.cursor->end = input_len;
	w.cursor->left = 0;
	w.cursor->at = 0;
	w.cursor->filled = 0;
	w.cursor->blocks = 0;
	w.cursor->part.flags = 0;
	bpf_loop(8 << 20, walk_step, &w, 0);
	return w.cursor->blocks;
}
