package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/breaker"
)

// parseOne reads a file with one policy: the text stands in for its keys below name and match, from line 4, column 3.
func parseOne(text string) (*Set, error) {
	return Parse("p.yaml", []byte("policies:\n- name: a\n  match: {addresses: ['192.0.2.1:80']}\n"+indent(text)))
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
}

// mustOne returns the only policy, which must be without errors.
func mustOne(t *testing.T, text string) *Policy {
	t.Helper()
	set, err := parseOne(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return set.Policies[0]
}

func TestDefaultsAreTheBreakersDefaults(t *testing.T) {
	got := mustOne(t, "# nothing")
	if diff := cmp.Diff(breaker.DefaultSettings(), got.Breaker); diff != "" {
		t.Error(diff)
	}
	want := Policy{
		Name: "a", Direction: Outbound, Protocol: HTTP, Match: got.Match, Breaker: got.Breaker, Position: Position{"p.yaml", 2, 3},
		Exempt:  Exempt{NodeHealthChecks: true},
		Timeout: 30 * time.Second, Patience: 2 * time.Second, ConnectTimeout: 3 * time.Second,
		Reject: Reject{With: Respond, Existing: true, RetryAfter: true, Answer: answer.Spec{
			Status: 503, ContentType: "application/json", GRPCStatus: 14,
		}},
	}
	if diff := cmp.Diff(want, *got, cmpopts.IgnoreFields(Policy{}, "Match", "Breaker")); diff != "" {
		t.Error(diff)
	}
}

// Each key that is given changes exactly what it is about.
func TestAccepted(t *testing.T) {
	trip := func(t breaker.Trip) func(*Policy) { return func(p *Policy) { p.Breaker.Trip = t } }
	window := func(size, bucket time.Duration) func(*Policy) {
		return func(p *Policy) { p.Breaker.Window = breaker.Window{Size: size, Bucket: bucket} }
	}
	failures := func(results ...breaker.Result) func(*Policy) {
		return func(p *Policy) {
			p.Breaker.Outcome.Failure = breaker.ResultSet{}
			for _, r := range results {
				p.Breaker.Outcome.Failure.Add(r)
			}
		}
	}
	var badGateways breaker.ResultSet
	badGateways.AddRange(502, 504)
	for _, r := range []breaker.Result{
		breaker.ResultReset, breaker.ResultH2Refused, breaker.ResultH2Reset, breaker.ResultGRPC(14), breaker.ResultGRPC(4),
	} {
		badGateways.Add(r)
	}
	half := breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.5}

	for _, test := range []struct {
		text   string
		change func(*Policy)
	}{
		{"mode: enforce", func(*Policy) {}},
		{"mode: monitor", func(p *Policy) { p.Breaker.Mode = breaker.ModeMonitor }},
		{"mode: disabled", func(p *Policy) { p.Breaker.Mode = breaker.ModeDisabled }},
		{"mode: forced-open", func(p *Policy) { p.Breaker.Mode = breaker.ModeForcedOpen }},
		{"scope: policy", func(p *Policy) { p.Breaker.Scope = breaker.ScopePolicy }},
		{"direction: inbound", func(p *Policy) { p.Direction = Inbound }},
		{"protocol: tcp", func(p *Policy) { p.Protocol, p.Reject.With, p.Reject.Existing = TCP, Reset, false }},
		{"protocol: grpc", func(p *Policy) { p.Protocol = GRPC }},
		{"protocol: tcp\nreject: {with: drop, existing: true}", func(p *Policy) { p.Protocol, p.Reject.With = TCP, Drop }},
		{"exempt: {nodeHealthChecks: false}", func(p *Policy) { p.Exempt.NodeHealthChecks = false }},

		{"outcome: {failure: []}", failures()},
		{"outcome: {failure: [503]}", failures(503, breaker.ResultGRPC(14))},
		{"outcome: {failure: ['503', 500-502]}", failures(500, 501, 502, 503, breaker.ResultGRPC(2), breaker.ResultGRPC(13),
			breaker.ResultGRPC(14), breaker.ResultGRPC(15))},
		{"outcome:\n  failure:\n  - aborted\n  - timeout", failures(breaker.ResultAborted, breaker.ResultTimeout)},
		{"outcome: {failure: [unreachable, abandoned, raced]}",
			failures(breaker.ResultUnreachable, breaker.ResultAbandoned, breaker.ResultRaced)},
		{"outcome: {failure: [h2-refused, h2-reset, grpc-ok, grpc-unauthenticated]}",
			failures(breaker.ResultH2Refused, breaker.ResultH2Reset, breaker.ResultGRPC(0), breaker.ResultGRPC(16))},
		{"outcome: {failure: [999, 100]}", failures(999, 100)},
		{"outcome: {ignore: []}", func(p *Policy) { p.Breaker.Outcome.Ignore = breaker.ResultSet{} }},
		{"outcome: {slow: 1ms}", func(p *Policy) { p.Breaker.Outcome.Slow = time.Millisecond }},
		{"outcome: {timeout: 0}", func(p *Policy) { p.Timeout = 0 }},
		{"outcome: {timeout: 24h}", func(p *Policy) { p.Timeout = 24 * time.Hour }},
		{"outcome: {patience: 0}", func(p *Policy) { p.Patience = 0 }},
		{"outcome: {patience: 1m}", func(p *Policy) { p.Patience = time.Minute }},
		{"outcome: {connectTimeout: 0s}", func(p *Policy) { p.ConnectTimeout = 0 }},
		{"outcome: {connectTimeout: 1m30s}", func(p *Policy) { p.ConnectTimeout = 90 * time.Second }},

		{"window: {size: 1s}", window(time.Second, 100*time.Millisecond)},
		{"window: {size: 5s}", window(5*time.Second, 500*time.Millisecond)},
		{"window: {size: 1h}", window(time.Hour, time.Second)},
		{"window: {size: 10500ms}", window(10500*time.Millisecond, 1050*time.Millisecond)},
		{"window: {size: 20s, bucket: 20s}", window(20*time.Second, 20*time.Second)},
		{"window: {bucket: 100ms}", window(10*time.Second, 100*time.Millisecond)},
		{"window: {bucket: null}", window(10*time.Second, time.Second)},
		{"window: {type: count}", func(p *Policy) { p.Breaker.Window = breaker.Window{Type: breaker.WindowCount, Count: 100} }},
		{"window: {type: count, size: 1}", func(p *Policy) { p.Breaker.Window = breaker.Window{Type: breaker.WindowCount, Count: 1} }},
		{"window: {type: count, size: 100000}", func(p *Policy) { p.Breaker.Window = breaker.Window{Type: breaker.WindowCount, Count: 100000} }},

		{"trip: {failureRate: 0.5}", trip(half)},
		{"trip: {failureRate: 1}", trip(breaker.Trip{Kind: breaker.TripFailureRate, Rate: 1})},
		{"trip: [{failureRate: 0.5}]", trip(breaker.Trip{Kind: breaker.TripAny, Children: []breaker.Trip{half}})},
		{"trip: {any: [{failureRate: 0.5}]}", trip(breaker.Trip{Kind: breaker.TripAny, Children: []breaker.Trip{half}})},
		{"trip: {not: {failureRate: 0.5}}", trip(breaker.Trip{Kind: breaker.TripNot, Children: []breaker.Trip{half}})},
		{"trip: {all: [{failureRate: 0.5}, {state: half-open}]}", trip(breaker.Trip{Kind: breaker.TripAll, Children: []breaker.Trip{
			half, {Kind: breaker.TripState, State: breaker.StateHalfOpen},
		}})},
		{"trip: {minCalls: 1}", trip(breaker.Trip{Kind: breaker.TripMinCalls, N: 1})},
		{"trip: {slowRate: 0.5}", trip(breaker.Trip{Kind: breaker.TripSlowRate, Rate: 0.5})},
		{"trip: {slowRate: {rate: 0.5, over: 1s}}", trip(breaker.Trip{Kind: breaker.TripSlowRate, Rate: 0.5, Over: time.Second})},
		{"trip: {failureCount: 3}", trip(breaker.Trip{Kind: breaker.TripFailureCount, N: 3})},
		{"trip: {consecutiveFailures: 3}", trip(breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 3})},
		{"trip: {consecutiveFailures: {count: 3}}", trip(breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 3})},
		{"trip: {consecutiveFailures: {count: 3, of: [502, 503-504, reset]}}",
			trip(breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 3, Of: &badGateways})},
		{"trip: {avgLatency: 1s}", trip(breaker.Trip{Kind: breaker.TripAvgLatency, Over: time.Second})},
		{"trip: {successRateOutlier: {}}",
			trip(breaker.Trip{Kind: breaker.TripSuccessRateOutlier, Stdev: 1.9, MinBackends: 5, N: 100})},
		{"trip: {successRateOutlier: {stdev: 2, minBackends: 3, minCalls: 10}}",
			trip(breaker.Trip{Kind: breaker.TripSuccessRateOutlier, Stdev: 2, MinBackends: 3, N: 10})},
		{"trip: {pendingAge: 20s}", trip(breaker.Trip{Kind: breaker.TripPendingAge, Over: 20 * time.Second})},
		{"trip: {minClients: 16}", trip(breaker.Trip{Kind: breaker.TripMinClients, N: 16})},

		{"open: {duration: 100ms}", func(p *Policy) { p.Breaker.Open.Duration = 100 * time.Millisecond }},
		{"open: {duration: 10m}", func(p *Policy) {
			p.Breaker.Open.Duration, p.Breaker.Open.Max = 10*time.Minute, 10*time.Minute
		}},
		{"open: {duration: 10m, max: 5m}", func(p *Policy) { p.Breaker.Open.Duration = 10 * time.Minute }},
		{"open: {backoff: none}", func(p *Policy) { p.Breaker.Open.Backoff = breaker.BackoffNone }},
		{"open: {backoff: linear}", func(p *Policy) { p.Breaker.Open.Backoff = breaker.BackoffLinear }},
		{"open: {multiplier: 1.5}", func(p *Policy) { p.Breaker.Open.Multiplier = 1.5 }},
		{"open: {jitter: 1}", func(p *Policy) { p.Breaker.Open.Jitter = 1 }},

		{"halfOpen: {calls: 1}", func(p *Policy) { p.Breaker.HalfOpen.Calls, p.Breaker.HalfOpen.Concurrent = 1, 1 }},
		{"halfOpen: {calls: 0}", func(p *Policy) { p.Breaker.HalfOpen.Calls, p.Breaker.HalfOpen.Concurrent = 0, 0 }},
		{"halfOpen: {calls: 0, concurrent: 3}", func(p *Policy) { p.Breaker.HalfOpen.Calls = 0 }},
		{"halfOpen: {concurrent: 1, tolerate: 2}", func(p *Policy) { p.Breaker.HalfOpen.Concurrent, p.Breaker.HalfOpen.Tolerate = 1, 2 }},
		{"halfOpen: {timeout: 1s}", func(p *Policy) { p.Breaker.HalfOpen.Timeout = time.Second }},
		{"halfOpen: {ramp: null}", func(*Policy) {}},
		{"halfOpen: {ramp: {}}", func(p *Policy) { p.Breaker.HalfOpen.Ramp = &breaker.Ramp{From: 0.1, To: 1, Over: time.Minute} }},
		{"halfOpen: {ramp: {from: 0, to: 0.5, over: 1s}}", func(p *Policy) {
			p.Breaker.HalfOpen.Ramp = &breaker.Ramp{From: 0, To: 0.5, Over: time.Second}
		}},

		{"ejection: {maxPercent: 33.3}", func(p *Policy) { p.Breaker.Ejection.MaxPercent = 33.3 }},
		{"ejection: {minHealthy: 2}", func(p *Policy) { p.Breaker.Ejection.MinHealthy = 2 }},

		{"reject: {with: reset}", func(p *Policy) { p.Reject.With = Reset }},
		{"reject: {existing: false}", func(p *Policy) { p.Reject.Existing = false }},
		{"reject: {status: 200}", func(p *Policy) { p.Reject.Answer.Status = 200 }},
		{"reject: {grpcStatus: 14}", func(*Policy) {}},
		{"reject: {grpcStatus: 0}", func(p *Policy) { p.Reject.Answer.GRPCStatus = 0 }},
		{"reject: {grpcStatus: 16}", func(p *Policy) { p.Reject.Answer.GRPCStatus = 16 }},
		{"reject: {message: ''}", func(*Policy) {}},
		{"reject: {message: \"100 % closed\\n\"}", func(p *Policy) { p.Reject.Answer.Message = "100 % closed\n" }},
		{"reject: {contentType: text/html; charset=utf-8}", func(p *Policy) { p.Reject.Answer.ContentType = "text/html; charset=utf-8" }},
		{"reject: {contentType: ''}", func(p *Policy) { p.Reject.Answer.ContentType = "" }},
		{"reject: {body: ''}", func(p *Policy) { p.Reject.Answer.Body = "" }},
		{"reject:\n  body: |\n    a\n    b", func(p *Policy) { p.Reject.Answer.Body = "a\nb\n" }},
		{"reject: {retryAfter: false}", func(p *Policy) { p.Reject.RetryAfter = false }},
		{"reject: {headers: {X-B: '1', x-a: b}}", func(p *Policy) {
			p.Reject.Answer.Headers = []answer.Header{{Name: "x-a", Value: "b"}, {Name: "X-B", Value: "1"}}
		}},

		{"limits: {maxConnections: 1}", func(p *Policy) { p.Limits.MaxConnections = 1 }},
		{"limits: {maxRequests: 2}", func(p *Policy) { p.Limits.MaxRequests = 2 }},
		{"limits: {maxRequestsPerConnection: 3}", func(p *Policy) { p.Limits.MaxRequestsPerConnection = 3 }},
		{"rateLimit: null", func(*Policy) {}},
		{"rateLimit: {limit: 7}", func(p *Policy) { p.RateLimit = &RateLimit{7, time.Second, 7, 429} }},
		{"rateLimit: {limit: 7, period: 1m, burst: 1, status: 503}", func(p *Policy) {
			p.RateLimit = &RateLimit{7, time.Minute, 1, 503}
		}},
		{"window: &w {size: 5s}\noutcome: {}", window(5*time.Second, 500*time.Millisecond)},
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s:\n%v", test.text, err)
			continue
		}
		got := set.Policies[0]
		want := *mustOne(t, "# nothing")
		test.change(&want)
		if !Equal(got, &want) {
			t.Errorf("%s:\n%s", test.text, cmp.Diff(&want, got, cmpopts.EquateComparable(breaker.ResultSet{}), cmpopts.IgnoreFields(Policy{}, "Match")))
		}
		if err := got.Breaker.Validate(); err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
	}
}

func TestAcceptedTargets(t *testing.T) {
	set, err := Load("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := set.Policies[0].Match
	for _, test := range []struct{ got, want string }{
		{fmt.Sprint(got.Addresses), "[192.0.2.7:8080 [2001:db8::7]:8080]"},
		{fmt.Sprint(got.CIDRs), "[198.51.100.0/24:8080 2001:db8:1::/48:8080 2001:db8:2::/48:81 2001:db8:3::/48:82 203.0.113.0/24:80]"},
		{fmt.Sprint(got.Hosts), "[orders.example.com:8080 a_b.example:80]"},
		{fmt.Sprint(got.Services), "[shop/orders:http shop/carts:8080]"},
		{fmt.Sprint(set.Policies[0].Exempt.Sources), "[192.0.2.0/24 2001:db8::1/128 198.51.100.1/32]"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
	mapped, err := Parse("", []byte("policies: [{name: a, match: {addresses: ['[::ffff:192.0.2.1]:80']}}]"))
	if err != nil || !mapped.Policies[0].Match.Addresses[0].Addr().Is4() {
		t.Errorf("IPv4-mapped address: %v, %v", mapped, err)
	}
}

// Every key of the format is in the table of accepted values.
func TestEveryKeyIsAccepted(t *testing.T) {
	data := mustRead(t, "keys_test.go")
	for _, t2 := range []reflect.Type{
		reflect.TypeFor[Keys](), reflect.TypeFor[ExemptSpec](), reflect.TypeFor[OutcomeSpec](), reflect.TypeFor[WindowSpec](),
		reflect.TypeFor[OpenSpec](), reflect.TypeFor[HalfOpenSpec](), reflect.TypeFor[RampSpec](), reflect.TypeFor[EjectionSpec](),
		reflect.TypeFor[RejectSpec](), reflect.TypeFor[LimitsSpec](), reflect.TypeFor[RateLimitSpec](), reflect.TypeFor[TripSpec](),
	} {
		for _, f := range fieldsOf(t2) {
			if f.key != "sources" && !strings.Contains(data, f.key+":") {
				t.Errorf("%s of %s is not in the table", f.key, t2.Name())
			}
		}
	}
}
