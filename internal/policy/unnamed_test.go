package policy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// named are results by name.
func named(t *testing.T, names ...string) []breaker.Result {
	t.Helper()
	var all []breaker.Result
	for _, name := range names {
		r, err := breaker.ParseResult(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// Lists that were written for HTTP/1.x say what HTTP/2 and gRPC outcomes are, unless they name some of these.
func TestOutcomesOfHTTP2AndGRPCThatNoListNames(t *testing.T) {
	for _, test := range []struct {
		text             string
		failure, ignored []string // of the results below
	}{
		{"# nothing", []string{"h2-refused", "h2-reset", "grpc-unknown", "grpc-deadline-exceeded", "grpc-internal", "grpc-unavailable", "grpc-data-loss"}, nil},
		{"outcome: {failure: [5xx, reset]}",
			[]string{"h2-refused", "h2-reset", "grpc-unknown", "grpc-deadline-exceeded", "grpc-internal", "grpc-unavailable", "grpc-data-loss"}, nil},
		{"outcome: {failure: [502-504]}", []string{"grpc-deadline-exceeded", "grpc-unavailable"}, nil},
		{"outcome: {failure: [4xx]}", []string{"grpc-resource-exhausted"}, nil},
		{"outcome: {failure: [timeout]}", nil, nil},
		{"outcome: {failure: []}", nil, nil},
		{"outcome: {failure: [reset, h2-refused]}", []string{"h2-refused"}, nil},
		{"outcome: {failure: [reset], ignore: [h2-reset]}", nil, []string{"h2-reset"}},
		{"outcome: {ignore: [reset]}",
			[]string{"grpc-unknown", "grpc-deadline-exceeded", "grpc-internal", "grpc-unavailable", "grpc-data-loss"}, []string{"h2-refused", "h2-reset"}},
		{"outcome: {failure: [5xx, grpc-not-found]}", []string{"grpc-not-found"}, nil},
		{"outcome: {failure: [5xx], ignore: [grpc-ok]}", nil, []string{"grpc-ok"}},
		{"outcome: {failure: [5xx], ignore: [503]}",
			[]string{"grpc-unknown", "grpc-deadline-exceeded", "grpc-internal", "grpc-data-loss"}, []string{"grpc-unavailable"}},
	} {
		rules := mustOne(t, test.text).Breaker.Outcome
		for _, r := range outcomeNames[len(outcomeNames)-breaker.GRPCCodes-2:] {
			if got, want := rules.Fails(r), slices.Contains(named(t, test.failure...), r); got != want {
				t.Errorf("%s: %s is a failure: %v", test.text, r, got)
			}
			if got, want := rules.Ignores(r), slices.Contains(named(t, test.ignored...), r); got != want {
				t.Errorf("%s: %s is ignored: %v", test.text, r, got)
			}
		}
	}
}

// The default as it was before it named HTTP/2 and gRPC outcomes means what it means now.
func TestFormerDefaultMeansTheSame(t *testing.T) {
	former := "outcome: {failure: [5xx, connect-refused, connect-timeout, unreachable, reset, timeout, abandoned]}"
	if diff := cmp.Diff(mustOne(t, "# nothing").Breaker.Outcome, mustOne(t, former).Breaker.Outcome); diff != "" {
		t.Error(diff)
	}
}

func TestHTTP2AndGRPCInAStreak(t *testing.T) {
	for text, want := range map[string][]string{
		"[502, 503, 504]":      {"502", "503", "504", "grpc-unavailable", "grpc-deadline-exceeded"},
		"[reset]":              {"reset", "h2-refused", "h2-reset"},
		"[503, grpc-internal]": {"503", "grpc-internal"},
		"[reset, h2-reset]":    {"reset", "h2-reset"},
	} {
		of := mustOne(t, "trip: {consecutiveFailures: {count: 3, of: "+text+"}}").Breaker.Trip.Of
		var wanted breaker.ResultSet
		for _, r := range named(t, want...) {
			wanted.Add(r)
		}
		if *of != wanted {
			t.Errorf("%s: %v, expected %v", text, outcomesOf(*of), outcomesOf(wanted))
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
