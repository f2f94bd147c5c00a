/* How a client is rejected: by an answer in its protocol, a reset, or no reply. Connections of HTTP/2 do not come here, see kept.h.
 * A new protocol adds a header like render_http1.h, and a case here. */
#pragma once

#include "render_http1.h"

/* render returns how a client is rejected, and sets answer to an index in answers for REJECT_RESPOND. fits: an answer can be
 * placed in the stream. mss: the maximum segment size of the client. */
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

/* render_first does the same for the first data of a connection whose SYN was answered. The client has an open connection, so
 * it gets a reset even if the policy now drops. */
static __always_inline enum reject render_first(struct __sk_buff *skb, struct packet *pkt, const struct policy *p, __u32 reason,
						__u32 *answer)
{
	*answer = http1_begins(skb, pkt) ? http1_answer(p, reason, MSS_ANY, false) : ANSWER_NONE;
	return *answer == ANSWER_NONE ? REJECT_RESET : REJECT_RESPOND;
}
