/* For tests only: the pure parts of a decision, with a clock and a random number that the test chooses. */
#include "../outcome.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum question {
	QUESTION_CIRCUIT, /* circuit_admit, and a permit when it takes one */
	QUESTION_RETURN, /* release_permit: random = 1 when it was not used */
	QUESTION_RATE,
	QUESTION_RETURN_RATE,
	QUESTION_CONNECTION, /* try_increment, up to max_connections */
	QUESTION_RETURN_CONNECTION,
	QUESTION_CERTAIN_REJECTION, /* certain_rejection */
	QUESTION_OUTCOME, /* record_completion: random = result, until = when it was sent */
};

struct decide_args {
	__u64 now;
	__u64 until; /* out; in for QUESTION_OUTCOME */
	__u32 circuit;
	__u32 random;
	__u32 question; /* enum question */
	__u32 generation; /* out; in for QUESTION_RETURN and QUESTION_OUTCOME */
	__u32 reason; /* out */
	__u32 yes; /* out */
};

/* Only what is used reaches the type information from which the Go constants are made. */
struct types {
	enum question question;
} types SEC(".data.types") __attribute__((unused));

SEC("syscall")
int decide(struct decide_args *args)
{
	struct admission adm = {};
	struct completion done = {};
	struct flow_key key = {};
	struct circuit *c = circuit_of(args->circuit);
	struct target *t = target_of(args->circuit);
	struct policy *p = c && t ? policy_of(t) : NULL;
	struct node_state *n = the_node();

	if (!p || !n)
		return 1;
	switch (args->question) {
	case QUESTION_CIRCUIT:
		circuit_admit(c, args->now, args->random, &adm);
		if (adm.reason == REASON_PROBE && !acquire_permit(c, &adm, args->now))
			adm.reason = REASON_HALF_OPEN;
		args->reason = adm.reason;
		args->generation = adm.generation;
		args->until = adm.until;
		break;
	case QUESTION_RETURN:
		release_permit(c, args->generation, args->now, args->random);
		break;
	case QUESTION_RATE:
		args->yes = take_rate(t, p, args->now);
		break;
	case QUESTION_RETURN_RATE:
		release_rate(t, p);
		break;
	case QUESTION_CONNECTION:
		args->yes = try_increment(&t->connections, p->max_connections);
		break;
	case QUESTION_RETURN_CONNECTION:
		__sync_fetch_and_add(&t->connections, -1);
		break;
	case QUESTION_CERTAIN_REJECTION:
		args->reason = certain_rejection(c, n, args->now);
		break;
	case QUESTION_OUTCOME:
		done.now = args->now;
		done.began = done.sent = args->until;
		done.generation = args->generation;
		done.result = args->random;
		record_completion(&key, args->circuit, &done);
		break;
	}
	return 0;
}
