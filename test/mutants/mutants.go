package main

// mutants are the faults that tests must notice, by what they are about.
var mutants = []mutant{
	// BPF.
	{
		Name: "the rate is not given back when there is no permit",
		File: "bpf/admit.h",
		Old: `	if (g->rate)
		release_rate(`,
		New: `	if (0)
		release_rate(`,
		Package: "./internal/loader",
		Test:    "TestRateIsReturnedWithoutPermit",
	},
	{
		Name:    "the kubelet is rejected at connect()",
		File:    "bpf/connect.h",
		Old:     `if (!n || !in_pod(n))`,
		New:     `if (!n)`,
		Package: "./internal/loader",
		Test:    "TestConnectLeavesKubeletAlone",
	},
	{
		Name:    "processes of pods pass at connect()",
		File:    "bpf/connect.h",
		Old:     `bpf_get_current_ancestor_cgroup_id(n->kubepods_level) == n->kubepods`,
		New:     `bpf_get_current_ancestor_cgroup_id(n->kubepods_level + 1) == n->kubepods`,
		Package: "./internal/loader",
		Test:    "TestConnectLeavesKubeletAlone",
	},
	{
		Name:    "sk_lookup ignores uplinks",
		File:    "bpf/lookup.h",
		Old:     `direction_of(ctx->ingress_ifindex)`,
		New:     `DIRECTION_OUTBOUND`,
		Package: "./internal/loader",
		Test:    "TestLookupKnowsUplinks",
	},
	{
		Name:    "answered SYNs are remembered for 12 s",
		File:    "bpf/cookie.h",
		Old:     `#define ANSWERING_TIME (120ULL * 1000000000)`,
		New:     `#define ANSWERING_TIME (12ULL * 1000000000)`,
		Package: "./internal/loader",
		Test:    "TestHowLongAnsweredSYNsAreRemembered",
	},
	{
		Name: "answered SYNs are remembered for ever",
		File: "bpf/cookie.h",
		Old: ` ||
	    bpf_ktime_get_coarse_ns() >= READ_ONCE(c->answering_until))
`,
		New: `)
`,
		Package: "./internal/loader",
		Test:    "TestAnsweredSYNIsForgotten",
	},
	{
		Name: "the IPv6 packets of the kernel have no hop limit",
		File: "bpf/headers.h",
		Old: `		.hop_limit = HOP_LIMIT,
`,
		New:     "",
		Package: "./internal/loader",
		Test:    "TestHeaderOfXDPReset",
	},
	{
		Name:    "an open circuit rejects at its deadline",
		File:    "bpf/verdict.h",
		Old:     `return v->kind == VERDICT_OPEN && now >= v->until;`,
		New:     `return v->kind == VERDICT_OPEN && now > v->until;`,
		Package: "./internal/loader",
		Test:    "TestEqualMoments",
	},
	{
		Name:    "the lease holds at its end",
		File:    "bpf/verdict.h",
		Old:     `return now >= READ_ONCE(n->lease_until);`,
		New:     `return now > READ_ONCE(n->lease_until);`,
		Package: "./internal/loader",
		Test:    "TestEqualMoments",
	},
	{
		Name:    "an outcome that took as long as the threshold is slow",
		File:    "bpf/outcome.h",
		Old:     `if (p->slow && latency > p->slow)`,
		New:     `if (p->slow && latency >= p->slow)`,
		Package: "./internal/loader",
		Test:    "TestSlowIsLongerThanTheThreshold",
	},
	{
		Name: "a header block forgets insertions without a trace",
		File: "bpf/hpack.h",
		Old: `	if (*slot >> 16 > h->forgotten)
		h->forgotten = *slot >> 16;
`,
		New:     "",
		Package: "./internal/loader",
		Test:    "TestHPACKForgets",
	},
	{
		Name:    "a field inserted with an unknown name is of no interest",
		File:    "bpf/hpack.h",
		Old:     `		h->forgotten = number;`,
		New:     `		h->forgotten = 0;`,
		Package: "./internal/loader",
		Test:    "TestHPACKJoins",
	},
	{
		Name:    "an entry of before the walk is that of no insertion",
		File:    "bpf/hpack.h",
		Old:     `if ((__s64)number <= 0)`,
		New:     `if ((__s64)number < 0)`,
		Package: "./internal/loader",
		Test:    "TestHPACKBroken",
	},
	{
		Name:    "a digit of Huffman codes ends in the padding",
		File:    "bpf/hpack.h",
		Old:     `used > 8 * len || `,
		New:     ``,
		Package: "./internal/loader",
		Test:    "TestHPACKRepresentations",
	},
	{
		Name:    "a status that occurs twice is the second",
		File:    "bpf/hpack.h",
		Old:     `earlier == HPACK_ABSENT || earlier == value ? value`,
		New:     `earlier != HPACK_UNKNOWN ? value`,
		Package: "./internal/loader",
		Test:    "TestHPACKRepresentations",
	},
	{
		Name:    "a header block may end within a field",
		File:    "bpf/hpack.h",
		Old:     `if (h->phase != HPACK_FIELD)`,
		New:     `if (h->phase == HPACK_INDEX)`,
		Package: "./internal/loader",
		Test:    "TestHPACKBroken",
	},
	{
		Name:    "a gRPC code is in no list of the policy",
		File:    "bpf/outcome.h",
		Old:     `return result <= GRPC_MAX &&`,
		New:     `return result <= STATUS_MAX &&`,
		Package: "./internal/loader",
		Test:    "TestResultsAreJudgedAsByTheBreaker",
	},
	{
		Name:    "gRPC calls have no latency",
		File:    "bpf/outcome.h",
		Old:     `if (is_status(result) || is_grpc(result)) {`,
		New:     `if (is_status(result)) {`,
		Package: "./internal/loader",
		Test:    "TestResultsAreJudgedAsByTheBreaker",
	},

	// Loader.
	{
		Name: "clsact filters of others are ignored where clients are rejected at entry",
		File: "internal/loader/entry.go",
		Old: `			if !ownFilter(f) {
				return false, nil
			}
`,
		New: `			_ = ownFilter(f)
`,
		Package: "./internal/loader",
		Test:    "TestEntryIsLeftWhereOthersHavePrograms",
	},
	{
		Name:    "the place of a field is left out of the layout's hash",
		File:    "internal/tables/layout.go",
		Old:     `fmt.Fprintln(w, m.Name, m.Offset, m.BitfieldSize)`,
		New:     `fmt.Fprintln(w, m.Name, m.BitfieldSize)`,
		Package: "./internal/tables",
		Test:    "TestLayoutSeesEveryChangeOfAType",
	},
	{
		Name:    "the last field of a struct is left out of the layout's hash",
		File:    "internal/tables/layout.go",
		Old:     `for _, m := range members {`,
		New:     `for _, m := range members[:len(members)-1] {`,
		Package: "./internal/tables",
		Test:    "TestLayoutSeesEveryChangeOfAType",
	},

	{
		Name:    "the rate interval is rounded down",
		File:    "internal/tables/policy.go",
		Old:     `(uint64(s.RatePeriod) + uint64(s.RateLimit) - 1) / uint64(s.RateLimit)`,
		New:     `uint64(s.RatePeriod) / uint64(s.RateLimit)`,
		Package: "./internal/tables",
		Test:    "TestRateIsRoundedDown",
	},
	{
		Name: "a verdict changed in place keeps its former ramp",
		File: "internal/tables/verdict.go",
		Old: `	// Last: the programs look at RampOver to choose between ramp and permits.
	atomic.StoreUint64(&s.RampOver, uint64(v.RampOver))
`,
		New:     "",
		Package: "./internal/tables",
		Test:    "TestSetVerdict",
	},

	// Places in the tables, and of the pods.
	{
		Name:    "a circuit with connections is used again",
		File:    "internal/places/circuits.go",
		Old:     `if now >= s.from && c.kernel.Connections(s.id) == 0 {`,
		New:     `if now >= s.from {`,
		Package: "./internal/places",
		Test:    "TestCircuitWithConnectionsIsNotReused",
	},
	{
		Name:    "the level of the pods is one less",
		File:    "internal/cgroup/find.go",
		Old:     `level + len(strings.Split(n.Pods, "/"))`,
		New:     `level + len(strings.Split(n.Pods, "/")) - 1`,
		Package: "./internal/cgroup",
		Test:    "TestPlace",
	},

	// Ledger.
	{
		Name:    "events that were judged before the agent started are counted again",
		File:    "internal/ledger/tally.go",
		Old:     `, past: p.Events}`,
		New:     `}`,
		Package: "./internal/ledger",
		Test:    "TestResumedEventsAreNotCountedTwice",
	},
	{
		Name: "an event that comes after its recovery is counted again",
		File: "internal/ledger/losses.go",
		Old: `	t.past = check.Events
`,
		New:     ``,
		Package: "./internal/ledger",
		Test:    "TestEventAfterItsRecovery",
	},
	{
		Name:    "each plain success has an event where none needs one",
		File:    "internal/ledger/needs.go",
		Old:     `!subset(t.Of, &s.Outcome.Failure)`,
		New:     `subset(t.Of, &s.Outcome.Failure)`,
		Package: "./internal/ledger",
		Test:    "TestNeeds",
	},
	{
		Name:    "the mean of a count window needs no event of a plain success",
		File:    "internal/ledger/needs.go",
		Old:     `n.Every || s.Window.Type == breaker.WindowCount`,
		New:     `n.Every || s.Window.Type != breaker.WindowCount`,
		Package: "./internal/ledger",
		Test:    "TestNeeds",
	},
	{
		Name:    "the largest slow threshold needs events, not the smallest",
		File:    "internal/ledger/needs.go",
		Old:     `t.Over < n.Slow`,
		New:     `t.Over > n.Slow`,
		Package: "./internal/ledger",
		Test:    "TestNeeds",
	},
	{
		Name: "time passes unread events",
		File: "internal/ledger/book.go",
		Old: `	if drained {
`,
		New: `	if true {
`,
		Package: "./internal/ledger",
		Test:    "TestTimeStopsAtUnreadEvents",
	},
	{
		Name: "an overtaken event stays missing",
		File: "internal/ledger/tally.go",
		Old: `		t.missing = monus(t.missing, 1)
`,
		New:     ``,
		Package: "./internal/ledger",
		Test:    "TestLossIsRecoveredByNumber",
	},
	{
		Name:    "plain successes are counted while an event of theirs is unread",
		File:    "internal/ledger/tally.go",
		Old:     `outcomes <= t.outcomes || events != t.events`,
		New:     `outcomes <= t.outcomes && events >= 0`,
		Package: "./internal/ledger",
		Test:    "TestBookAgreesWithBreaker",
	},
	{
		Name: "half-open is published under its own generation",
		File: "internal/ledger/state.go",
		Old: `			v.Generation--
`,
		New:     ``,
		Package: "./internal/ledger",
		Test:    "TestVerdictOfState",
	},
	{
		Name:    "an unexplained recovery is not reported",
		File:    "internal/ledger/losses.go",
		Old:     `	return n - explained`,
		New:     `	return 0`,
		Package: "./internal/ledger",
		Test:    "TestEventThatNeverCame",
	},

	{
		Name:    "a circuit's place is used again at once",
		File:    "internal/places/circuits.go",
		Old:     `slot{id, now + rest}`,
		New:     `slot{id, now}`,
		Package: "./internal/places",
		Test:    "TestCircuitWithConnectionsIsNotReused",
	},

	// What the agent owns.
	{
		Name:    "a short lease is renewed when it has run out",
		File:    "internal/lease/lease.go",
		Old:     `min(int64(renewEvery), l.length/renewShare)`,
		New:     `int64(renewEvery)`,
		Package: "./internal/lease",
		Test:    "TestRenew",
	},
	{
		Name:    "the saved state lacks standing overrides",
		File:    "internal/agent/restore.go",
		Old:     `s := &statedir.State{Standing: maps.Clone(f.standing)}`,
		New:     `s := &statedir.State{}`,
		Package: "./internal/agent",
		Test:    "TestStandingOverride",
	},
	{
		Name:    "XDP stays on an interface that is gone",
		File:    "internal/attach/interfaces.go",
		Old:     `errors.Join(i.dp.Detach(index), i.dp.DetachXDP(index))`,
		New:     `i.dp.Detach(index)`,
		Package: "./internal/attach",
		Test:    "TestInterfacesThatGo",
	},
	{
		Name:    "a neighbour's entry is held while its circuit probes",
		File:    "internal/unreachable/hold.go",
		Old:     `probes = now >= until`,
		New:     `probes = false`,
		Package: "./internal/unreachable",
		Test:    "TestHolds",
	},

	// Policy.
	{
		Name:    "a rate of one per nanosecond is out of range",
		File:    "internal/policy/resolve.go",
		Old:     `time.Duration(r.Period).Nanoseconds() < int64(r.Limit)`,
		New:     `time.Duration(r.Period).Nanoseconds() <= int64(r.Limit)`,
		Package: "./internal/policy",
		Test:    "TestHighestRateLimit",
	},
	{
		Name:    "a policy file rejects a latency that the breaker accepts",
		File:    "internal/policy/file.go",
		Old:     `bounds:"avgLatency"`,
		New:     `bounds:"pendingAge"`,
		Package: "./internal/policy",
		Test:    "TestPolicyAndBreakerAcceptTheSame",
	},
	{
		Name:    "a setting has bounds of its own in a policy file",
		File:    "internal/policy/file.go",
		Old:     `bounds:"avgLatency"`,
		New:     `range:"1ns..24h"`,
		Package: "./internal/policy",
		Test:    "TestEverySettingHasItsBounds",
	},
	{
		Name:    "a list that names a gRPC code still stands for others",
		File:    "internal/policy/unnamed.go",
		Old:     `if k := &families[i]; !k.names(list) {`,
		New:     `if k := &families[i]; !k.names(nil) {`,
		Package: "./internal/policy",
		Test:    "TestHTTP2AndGRPCInAStreak",
	},

	// Answers.
	{
		Name:    "the seconds of an HTTP/2 answer stand at an odd offset",
		File:    "internal/answer/http2.go",
		Old:     `digits := RetryFieldLen + (frameHeader+len(b)+length)%2`,
		New:     `digits := RetryFieldLen + (frameHeader+len(b))%2`,
		Package: "./internal/answer",
		Test:    "TestHTTP2AnswerIsRead",
	},
	{
		Name:    "a limit answers a gRPC call as an open circuit does",
		File:    "internal/answer/body.go",
		Old:     `s.GRPCStatus == DefaultGRPCStatus && isLimit(reason)`,
		New:     `s.GRPCStatus < 0 && isLimit(reason)`,
		Package: "./internal/answer",
		Test:    "TestCodeOfLimits",
	},

	// Discovery.
	{
		Name: "the TTL of an alias is ignored",
		File: "internal/discovery/resolver.go",
		Old: `			} else if next == "" {
				continue
`,
		New: `			} else {
				continue
`,
		Package: "./internal/discovery",
		Test:    "TestTTLOfAliases",
	},
	{
		Name:    "the TTL of an alias is ignored where it is asked for separately",
		File:    "internal/discovery/resolver.go",
		Old:     `ttl = min(ttl, shortest)`,
		New:     `ttl = shortest`,
		Package: "./internal/discovery",
		Test:    "TestTTLOfAliases",
	},

	// Control.
	{
		Name:    "an order may last for 0.1 s",
		File:    "internal/control/server.go",
		Old:     `o.ForSeconds < 1 ||`,
		New:     `o.ForSeconds < 0 ||`,
		Package: "./internal/control",
		Test:    "TestHowLongAnOrderLasts",
	},
}
