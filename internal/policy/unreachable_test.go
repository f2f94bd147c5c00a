package policy

import (
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Where no list names unreachable, it counts as connect-timeout.
func TestUnreachableCountsAsConnectTimeout(t *testing.T) {
	for _, test := range []struct {
		text            string
		failure, ignore bool // unreachable is in it
	}{
		{"outcome: {failure: [connect-timeout]}", true, false},
		{"outcome: {failure: [5xx, timeout]}", false, false},
		{"outcome: {ignore: [connect-timeout]}", true, true}, // ignore wins
		{"outcome: {failure: [connect-timeout], ignore: [connect-timeout]}", true, true},
		{"outcome: {failure: [connect-timeout], ignore: [unreachable]}", false, true},
		{"outcome: {failure: [unreachable], ignore: [connect-timeout]}", true, false},
		{"outcome: {failure: [unreachable]}", true, false},
		{"outcome: {failure: [5xx], ignore: [unreachable]}", false, true},
	} {
		rules := mustOne(t, test.text).Breaker.Outcome
		if f, i := rules.Failure.Has(breaker.ResultUnreachable), rules.Ignore.Has(breaker.ResultUnreachable); f != test.failure || i != test.ignore {
			t.Errorf("%s: in failure %v, in ignore %v", test.text, f, i)
		}
	}
}

// Each list of consecutiveFailures.of is looked at by itself.
func TestUnreachableInAStreak(t *testing.T) {
	for _, test := range []struct {
		text string
		want bool
	}{
		{"trip: {consecutiveFailures: {count: 3, of: [connect-timeout]}}", true},
		{"trip: {consecutiveFailures: {count: 3, of: [connect-timeout]}}\noutcome: {failure: [connect-timeout, unreachable]}", true},
		{"trip: {consecutiveFailures: {count: 3, of: [unreachable]}}", true},
		{"trip: {consecutiveFailures: {count: 3, of: [502, connect-refused]}}", false},
	} {
		of := mustOne(t, test.text).Breaker.Trip.Of
		if got := of.Has(breaker.ResultUnreachable); got != test.want {
			t.Errorf("%s: %v", test.text, got)
		}
	}
}

// A default that names connect-timeout is a list like any other.
func TestUnreachableInDefaults(t *testing.T) {
	set, err := withDefaults(t, "outcome: {failure: [connect-timeout]}", "outcome: {ignore: [unreachable]}", "# nothing")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		if got := set.Policies[i].Breaker.Outcome.Failure.Has(breaker.ResultUnreachable); got != want {
			t.Errorf("policy %d: %v", i, got)
		}
	}
}
