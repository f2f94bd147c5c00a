/* How a client is rejected: by an answer of its protocol, a reset, or nothing. HTTP/1.x is the only protocol with answers. The
 * answers of another one get a header like render_http1.h, and are chosen here. */
#pragma once

#include "render_http1.h"

/* render returns how a client is rejected, and sets answer to the index of what it gets with REJECT_RESPOND. fits: an answer can
 * be placed there. mss: what the client takes in one segment. */
static __always_inline enum reject render(const struct policy *p, __u32 reason, bool fits, __u32 mss, bool has_ts, __u32 *answer)
{
	*answer = ANSWER_NONE;
	switch (p->reject) {
	case REJECT_DROP:
		return REJECT_DROP;
	case REJECT_RESPOND:
		if (fits)
			*answer = http1_answer(p, reason, mss, has_ts);
		break;
	}
	return *answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND;
}

/* render_first does the same for the first bytes of a connection whose SYN was answered. The client has an open connection, so a
 * policy that drops by now resets it. */
static __always_inline enum reject render_first(struct __sk_buff *skb, struct packet *pkt, const struct policy *p, __u32 reason,
						__u32 *answer)
{
	*answer = http1_begins(skb, pkt) ? http1_answer(p, reason, MSS_ANY, false) : ANSWER_NONE;
	return *answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND;
}
