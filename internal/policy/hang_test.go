package policy

import "testing"

func TestWarningsOfHangs(t *testing.T) {
	const none = "p.yaml:4:22: policies[0].outcome.failure: timeout is no failure and abandoned is no failure: "
	const never = none + "a backend that hangs can never open its circuit"
	const hardly = none + "a request that hangs counts as a success, or not at all"
	const impatient = ": policies[0].outcome.patience: is 0s, and there is no pendingAge: a backend that hangs can never open its circuit while " +
		"clients leave before outcome.timeout, "
	for _, test := range []struct {
		text string
		want string // "" = none
	}{
		{"outcome: {failure: [5xx]}", never},
		{"outcome: {failure: [5xx, connect-refused, reset]}\ntrip: {consecutiveFailures: {count: 3, of: [502]}}", never},
		{"outcome: {failure: [5xx, timeout]}", ""},
		{"outcome: {failure: [5xx, abandoned]}", ""},
		{"outcome: {failure: [5xx]}\ntrip: [{consecutiveFailures: 5}, {pendingAge: 5s}]", hardly},
		{"outcome: {failure: [5xx], slow: 1s}\ntrip: {slowRate: 0.5}", hardly},
		{"outcome: {failure: [5xx]}\ntrip: {avgLatency: 5s}", hardly},
		{"outcome: {failure: [5xx], ignore: [timeout]}\ntrip: {avgLatency: 5s}", never},
		{"outcome: {failure: [5xx]}\ntrip: {consecutiveFailures: {count: 3, of: [timeout]}}", hardly},
		{"outcome: {failure: [5xx]}\ntrip: {consecutiveFailures: {count: 3, of: [502, abandoned]}}", never}, // ignored, as in neither list
		{"outcome: {ignore: [timeout, abandoned]}",
			"p.yaml:4:12: policies[0].outcome.failure: timeout is no failure and abandoned is no failure: a backend that hangs can never open its circuit"},
		{"outcome: {timeout: 0, patience: 0}",
			"p.yaml:4:12: policies[0].outcome.failure: outcome.timeout is 0s and outcome.patience is 0s: a backend that hangs can never open its circuit"},
		{"outcome: {timeout: 0, patience: 0}\ntrip: {pendingAge: 5s}", ""},
		{"outcome: {patience: 0}", "p.yaml:4:23" + impatient + "30s"},
		{"outcome: {patience: 0, timeout: 5s}", "p.yaml:4:23" + impatient + "5s"},
		{"outcome: {patience: 0}\ntrip: {any: [{consecutiveFailures: 5}, {all: [{minCalls: 3}, {pendingAge: 5s}]}]}", ""},
		{"protocol: tcp\noutcome: {failure: [connect-refused]}", ""},
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := set.Warnings.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}
