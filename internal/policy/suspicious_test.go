package policy

import "testing"

func TestWarnings(t *testing.T) {
	for _, test := range []struct {
		text string
		want string // "" = none
	}{
		{"# nothing", ""},
		{"protocol: tcp", ""},
		{"window: {type: count, size: 10}", "p.yaml:2:3: policies[0].trip: asks for 20 outcomes, but the window holds 10: that part can never trip"},
		{"window: {type: count, size: 20}", ""},
		{"trip: {slowRate: 0.5}", "p.yaml:4:9: policies[0].trip: asks for slow outcomes, but outcome.slow is 0s: it can never trip"},
		{"trip: {slowRate: 0.5}\noutcome: {slow: 1s}", ""},
		{"trip: {slowRate: {rate: 0.5, over: 1s}}",
			"p.yaml:4:9: policies[0].trip: asks for outcomes over 1s, but probes are slow by outcome.slow, which is 0s: slow ones close the circuit again"},
		{"trip: {slowRate: {rate: 0.5, over: 1s}}\noutcome: {slow: 1s}", ""},
		{"trip: {slowRate: {rate: 0.5, over: 1s}}\nhalfOpen: {ramp: {}}", ""},
		{"trip: {slowRate: {rate: 0.5, over: 1s}}\nhalfOpen: {calls: 0}", ""},
		{"scope: policy\ntrip: {successRateOutlier: {}}",
			"p.yaml:5:9: policies[0].trip: successRateOutlier compares backends, but with scope policy there is only one circuit: it can never trip"},
		{"scope: policy\nejection: {minHealthy: 1}", "p.yaml:5:13: policies[0].ejection: has no effect with scope policy"},
		{"scope: policy\nejection: {minHealthy: 0, maxPercent: 100}", ""},
		{"ejection: {maxPercent: 0}", "p.yaml:4:26: policies[0].ejection.maxPercent: 0 means that a circuit can never open; mode monitor says so more clearly"},
		{"outcome: {failure: []}", "p.yaml:4:22: policies[0].outcome.failure: is empty: nothing is a failure"},
		{"halfOpen: {calls: 1, ramp: {}}", "p.yaml:4:21: policies[0].halfOpen.calls: has no effect with ramp"},
		{"halfOpen: {calls: 0, tolerate: 1}", "p.yaml:4:34: policies[0].halfOpen.tolerate: has no effect without calls"},
		{"reject: {with: drop, body: x}", "p.yaml:4:30: policies[0].reject.body: has no effect with reject.with drop"},
		{"reject: {with: reset, message: x}", "p.yaml:4:34: policies[0].reject.message: has no effect with reject.with reset"},
		{"protocol: tcp\nreject: {grpcStatus: 9}", "p.yaml:5:24: policies[0].reject.grpcStatus: has no effect with reject.with reset"},
		{"protocol: tcp\nlimits: {maxRequests: 1}",
			"p.yaml:5:25: policies[0].limits.maxRequests: has no effect with protocol tcp, which knows connections only"},
		{"protocol: tcp\noutcome: {timeout: 1s}", "p.yaml:5:22: policies[0].outcome.timeout: has no effect with protocol tcp, which knows connections only"},
		{"protocol: tcp\noutcome: {patience: 1s}", "p.yaml:5:23: policies[0].outcome.patience: has no effect with protocol tcp, which knows connections only"},
		{"protocol: tcp\noutcome: {slow: 1s}\ntrip: {slowRate: 0.5}", ""},
		{"open: {duration: 10s, max: 5s}", "p.yaml:4:30: policies[0].open.max: 5s is below open.duration, 10s: every opening lasts 5s"},
		{"exempt: {sources: [192.0.2.1, 192.0.2.1/32]}", "p.yaml:4:33: policies[0].exempt.sources[1]: is the same as entry 0 of this list"},
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := set.Warnings.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}
