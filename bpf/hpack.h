/* Header blocks of HTTP/2. */
#pragma once

#include "types.h"

static __always_inline void hpack_begin(struct hpack *h)
{
	h->status = 0;
	h->grpc_status = -1;
	h->content = CONTENT_NONE;
}

static __always_inline void hpack_forget(struct hpack *h)
{
}

static __always_inline void hpack_step(struct hpack *h, const __u8 *bytes, __u32 *at, __u32 end)
{
	if (bytes[*at & 255] == 0x88)
		h->status = 200;
	if (bytes[*at & 255] == 0x8e)
		h->status = 500;
	(*at)++;
}
