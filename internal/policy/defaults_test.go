package policy

import (
	"strings"
	"testing"
)

// withDefaults resolves policies a and b, which add keys of their own to the same defaults.
func withDefaults(t *testing.T, defaults, a, b string) (*Set, error) {
	t.Helper()
	text := "defaults:\n" + indent(defaults) + "policies:\n" +
		"- name: a\n  match: {addresses: ['192.0.2.1:80']}\n" + indent(a) +
		"- name: b\n  match: {addresses: ['192.0.2.2:80']}\n" + indent(b)
	return Parse("p.yaml", []byte(text))
}

func TestDefaultsMerge(t *testing.T) {
	for _, test := range []struct {
		what, defaults, a string
		want              string // keys with the same effect on a file without defaults
	}{
		{"nothing", "{}", "# nothing", "# nothing"},
		{"a key", "mode: monitor", "# nothing", "mode: monitor"},
		{"the policy wins", "mode: monitor", "mode: disabled", "mode: disabled"},
		{"key by key", "window: {size: 20s, bucket: 2s}", "window: {size: 30s}", "window: {size: 30s, bucket: 2s}"},
		{"two levels", "halfOpen: {ramp: {from: 0.2, over: 5s}}", "halfOpen: {ramp: {over: 6s}}", "halfOpen: {ramp: {from: 0.2, over: 6s}}"},
		{"a list replaces", "outcome: {failure: [500, 501]}", "outcome: {failure: [502]}", "outcome: {failure: [502]}"},
		{"an empty list replaces", "outcome: {ignore: [404]}", "outcome: {ignore: []}", "outcome: {ignore: []}"},
		{"a trip replaces", "trip: {any: [{failureCount: 3}]}", "trip: {all: [{minCalls: 1}]}", "trip: {all: [{minCalls: 1}]}"},
		{"headers merge", "reject: {headers: {X-A: a, X-B: b}}", "reject: {headers: {X-B: c, X-D: d}}", "reject: {headers: {X-A: a, X-B: c, X-D: d}}"},
		{"null takes a header back", "reject: {headers: {X-A: a, X-B: b}}", "reject: {headers: {X-B: null}}", "reject: {headers: {X-A: a}}"},
		{"null takes a key back", "window: {size: 20s, bucket: 2s}", "window: {bucket: null}", "window: {size: 20s}"},
		{"null takes a map back", "window: {size: 20s, bucket: 2s}", "window: null", "# nothing"},
		{"null takes a limit back", "rateLimit: {limit: 3}", "rateLimit: null", "# nothing"},
		{"half of a limit", "rateLimit: {limit: 3, period: 5s}", "rateLimit: {limit: 4}", "rateLimit: {limit: 4, period: 5s}"},
		{"a limit's burst follows", "rateLimit: {limit: 3}", "rateLimit: {limit: 4}", "rateLimit: {limit: 4, burst: 4}"},
		{"max follows", "open: {duration: 10m}", "# nothing", "open: {duration: 10m, max: 10m}"},
		{"concurrent follows", "halfOpen: {calls: 7}", "# nothing", "halfOpen: {calls: 7, concurrent: 7}"},
		{"another type of window", "window: {size: 20s, bucket: 2s}", "window: {type: count, size: 5, bucket: null}", "window: {type: count, size: 5}"},
		{"only what is given", "outcome: {timeout: 1s}", "protocol: tcp", "protocol: tcp\noutcome: {timeout: 1s}"},
	} {
		set, err := withDefaults(t, test.defaults, test.a, "# nothing")
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		if want := mustOne(t, test.want); !Equal(set.Policies[0], want) {
			got, _ := set.Policies[0].YAML()
			t.Errorf("%s: got\n%s", test.what, got)
		}
		b, err := withDefaults(t, test.defaults, "# nothing", "# nothing")
		if err != nil {
			t.Fatal(err)
		}
		if !Equal(set.Policies[1], b.Policies[1]) {
			t.Errorf("%s: what one policy says changed its neighbour", test.what)
		}
	}
}

func TestDefaultsErrors(t *testing.T) {
	for _, test := range []struct{ defaults, a, want string }{
		// What is wrong in itself is said once, where it is.
		{"window: {size: 0s}", "# nothing", "p.yaml:2:18: defaults.window.size: must be between 1s and 1h, got 0s"},
		{"open: {jitter: 2}", "open: {jitter: 1}", "p.yaml:2:18: defaults.open.jitter: must be between 0 and 1, got 2"},
		{"match: {hosts: ['a:80']}", "# nothing", "p.yaml:2:3: defaults.match: unknown key; there are mode, scope, direction, protocol, exempt, outcome, window, " +
			"trip, open, halfOpen, ejection, reject, limits, rateLimit"},
		{"trip: {state: closed}", "# nothing", "p.yaml:2:9: defaults.trip: must look at outcomes: state alone trips at every one of them, or never"},
		// What does not fit what the policy says names both.
		{"window: {bucket: 1s}", "window: {type: count}",
			"p.yaml:2:20: defaults.window.bucket: must not be given for a count window (inherited by policies[0] in line 4; null takes it back)"},
		{"halfOpen: {concurrent: 3}", "halfOpen: {calls: 2}",
			"p.yaml:2:26: defaults.halfOpen.concurrent: must be at most calls, which is 2, got 3 (inherited by policies[0] in line 4; null takes it back)"},
		{"reject: {with: respond}", "protocol: tcp",
			"p.yaml:2:18: defaults.reject.with: must be reset or drop for protocol tcp, got respond (inherited by policies[0] in line 4; null takes it back)"},
		{"halfOpen: {calls: 2}", "halfOpen: {concurrent: 3}", "p.yaml:6:26: policies[0].halfOpen.concurrent: must be at most calls, which is 2, got 3"},
	} {
		_, err := withDefaults(t, test.defaults, test.a, "# nothing")
		if err == nil || err.Error() != test.want {
			t.Errorf("%s and %s:\ngot  %v\nwant %s", test.defaults, test.a, err, test.want)
		}
	}
}

// A default that is wrong only with the defaults around it is no error if no policy ends up so.
func TestDefaultsAreNotAPolicy(t *testing.T) {
	if _, err := withDefaults(t, "halfOpen: {concurrent: 5}", "halfOpen: {calls: 5}", "halfOpen: {calls: 6}"); err != nil {
		t.Error(err)
	}
}

func TestAliases(t *testing.T) {
	set, err := Parse("p.yaml", []byte(strings.Join([]string{
		"policies:",
		"- name: a",
		"  match: {addresses: ['192.0.2.1:80']}",
		"  trip: &t [&r {failureRate: 0.5}]",
		"- name: b",
		"  match: {addresses: ['192.0.2.2:80']}",
		"  trip: *t",
		"- name: c",
		"  match: {addresses: ['192.0.2.3:80']}",
		"  trip: [*r]",
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range set.Policies[1:] {
		if got := p.Breaker.Trip.Children[0].Rate; got != 0.5 {
			t.Errorf("%s: rate %v", p.Name, got)
		}
	}
}

func TestBombs(t *testing.T) {
	for _, test := range []struct{ what, text, want string }{
		{"an alias of itself", "policies: [{name: a, match: {hosts: ['a:80']}, trip: &t {any: [*t, *t, *t]}}]", "must have at most 256 trippers"},
		{"a list in a list", "policies: [{name: a, match: {hosts: ['a:80']}, trip: " + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "}]",
			"must have at most 256 trippers"},
		{"deep trippers", "policies: [{name: a, match: {hosts: ['a:80']}, trip: " + strings.Repeat("{not: ", 60) + "{minCalls: 1}" +
			strings.Repeat("}", 60) + "}]", "must not be nested deeper"},
		{"deep nonsense", "x: " + strings.Repeat("[", 100_000), "not YAML"},
		{"too much", "x: " + strings.Repeat("y", MaxFileSize), "must be at most 16777216 bytes"},
	} {
		_, err := Parse("p.yaml", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.1000v", test.what, err)
		}
	}
}

// What aliases amount to is bounded.
func TestAliasBomb(t *testing.T) {
	text := "policies:\n- name: a\n  match: {hosts: ['a:80']}\n  outcome:\n    failure: &f [" + strings.Repeat("503, ", 100) + "]\n" +
		strings.Repeat("- {name: a, match: {hosts: ['a:80']}, outcome: {failure: *f}}\n", 40)
	d := newDecoder("p.yaml")
	d.nodes = 2000
	d.document([]byte(text))
	if got := d.errs.Error(); strings.Count(got, "has too many values; aliases of aliases?") != 1 || len(d.errs) > 100 {
		t.Errorf("got %.300s", got)
	}
}
