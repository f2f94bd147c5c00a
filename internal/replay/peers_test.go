package replay

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The numbers here come from the documentation and the tests of other circuit breakers, read as cbagent policies. Any
// correct implementation gives them.

func TestEnvoySuccessRateOutlier(t *testing.T) {
	trace := ""
	for i, failures := range []int{0, 0, 0, 0, 50} {
		trace += fmt.Sprintf(`{"t":1,"backend":"192.0.2.%d:80","status":200,"count":%d}`+"\n", i+1, 100-failures)
		if failures > 0 {
			trace += fmt.Sprintf(`{"t":1,"backend":"192.0.2.%d:80","status":500,"count":%d}`+"\n", i+1, failures-1)
			trace += fmt.Sprintf(`{"t":2,"backend":"192.0.2.%d:80","status":500}`+"\n", i+1)
		}
	}
	trip := "  trip: {successRateOutlier: {stdev: 1.9, minBackends: 5, minCalls: 100}}\n"
	lines := check(t, trip, trace+story("3 a SS", "3 b SS", "3 c SS", "3 d SS"), "2 e closed>open successRateOutlier")
	if o := lines[0]; number(o.Value) != "0.5" || number(o.Threshold) != "0.52" {
		t.Errorf("value %s, threshold %s; want 0.5 and 0.52", number(o.Value), number(o.Threshold))
	}
	check(t, strings.Replace(trip, "minBackends: 5", "minBackends: 6", 1), trace)
	check(t, strings.Replace(trip, "stdev: 1.9", "stdev: 2", 1), trace) // 50 is not below 50
}

func TestEnvoyConsecutive(t *testing.T) {
	trip := "  trip: {consecutiveFailures: 5}\n"
	check(t, trip, story("1 a "+strings.Repeat("cS", 100)))
	lines := check(t, trip, story("1 a "+strings.Repeat("cS", 100), "2 a FFFFFFFF"), "2 a closed>open consecutiveFailures")
	if o := lines[0]; number(o.Value) != "5" || number(o.Threshold) != "5" {
		t.Errorf("%+v", o)
	}
}

func TestEnvoyGatewayErrors(t *testing.T) {
	trip := "  trip: {consecutiveFailures: {count: 3, of: [502, 503, 504, connect-refused, connect-timeout, timeout]}}\n"
	line := func(status int) string {
		return fmt.Sprintf(`{"t":1,"backend":"192.0.2.1:80","status":%d}`+"\n", status)
	}
	check(t, trip, line(502)+line(503)+line(500)+line(504)+line(502))
	check(t, trip, line(502)+line(503)+story("1 a Sc")+line(503)+line(504), "1 a closed>open consecutiveFailures")
}

func openings(lines []output) (durations []float64) {
	for _, o := range lines {
		if o.Event == "transition" && o.To == "open" {
			durations = append(durations, *o.Until-*o.T)
		}
	}
	return durations
}

// reopened is a trace in which every probe fails, so that the circuit opens n times, after the opening times given.
func reopened(n int, wait func(n int) int) string {
	words, at := []string{"0 a FFFFF"}, 0
	for i := 1; i < n; i++ {
		at += wait(i)
		words = append(words, fmt.Sprintf("%d a F", at))
	}
	return story(words...)
}

func TestEnvoyBaseEjectionTime(t *testing.T) {
	open := "  open: {duration: 30s, backoff: linear}\n"
	if got := openings(replayed(t, open, reopened(2, func(n int) int { return 30 * n }))); fmt.Sprint(got) != "[30 60]" {
		t.Errorf("openings last %v", got)
	}
}

func TestEnvoyBaseEjectionTimeCapped(t *testing.T) {
	open := "  open: {duration: 10s, backoff: linear, max: 300s}\n"
	got := openings(replayed(t, open, reopened(33, func(n int) int { return min(10*n, 300) })))
	for i := range 33 {
		if want := float64(min(10*(i+1), 300)); got[i] != want {
			t.Errorf("opening %d lasts %v s, want %v", i+1, got[i], want)
		}
	}
}

func TestFluxgateBackoff(t *testing.T) {
	open := "  open: {duration: 10s, multiplier: 2, max: 300s}\n"
	waits := []int{10, 20, 40, 80, 160, 300, 300}
	got := openings(replayed(t, open, reopened(7, func(n int) int { return waits[n-1] })))
	if fmt.Sprint(got) != "[10 20 40 80 160 300 300]" {
		t.Errorf("openings last %v", got)
	}
}

func TestResilience4jBackoff(t *testing.T) {
	open := "  open: {duration: 5s, multiplier: 1.5}\n"
	if got := openings(replayed(t, open, reopened(2, func(n int) int { return 5 }))); fmt.Sprint(got) != "[5 7.5]" {
		t.Errorf("openings last %v", got)
	}
}

func TestEnvoyMaxEjectionPercent(t *testing.T) {
	for backends, want := range map[int]int{9: 0, 10: 1, 19: 1, 20: 2} {
		var addresses, trace strings.Builder
		for i := range backends {
			fmt.Fprintf(&addresses, `"192.0.2.%d:80", `, i+1)
			fmt.Fprintf(&trace, `{"t":%d,"backend":"192.0.2.%d:80","status":500,"count":6}`+"\n", i/10, i+1)
		}
		yaml := "  match: {addresses: [" + addresses.String() + "]}\n  ejection: {maxPercent: 10}\n"
		opened, overflows := 0, 0
		for _, o := range replayed(t, yaml, trace.String()) {
			switch o.Event {
			case "transition":
				opened++
			case "summary":
				overflows += o.OverflowsSum
			}
		}
		if opened != want || overflows != 2*(backends-want) {
			t.Errorf("%d backends: %d opened, %d overflows; want %d and %d", backends, opened, overflows, want, 2*(backends-want))
		}
	}
}

func TestResilience4jCountWindow(t *testing.T) {
	yaml := "  window: {type: count, size: 4}\n  trip: {consecutiveFailures: 100}\n"
	lines := replayed(t, yaml, story("1 a !F!S!S!S!S!"))
	got := metrics(lines, func(o output) string {
		return fmt.Sprintf("%d/%d=%s %v %s,", o.Failures, o.Total, number(o.FailureRate), o.Duration, number(o.Latency))
	})
	want := "0/0=- 0 -, 1/1=1 100 100, 1/2=0.5 200 100, 1/3=0.3333333333333333 300 100, 1/4=0.25 400 100, 0/4=0 400 100,"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestResilience4jSlowWindow(t *testing.T) {
	yaml := "  outcome: {slow: 1s}\n  window: {type: count, size: 2}\n  trip: {consecutiveFailures: 100}\n"
	got := metrics(replayed(t, yaml, story("1 a X!L!S!S!S!")), func(o output) string { return fmt.Sprint(o.Slow, "-", o.Failures) })
	if want := "1-1 2-1 1-0 0-0 0-0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestResilience4jMinimumNumberOfCalls(t *testing.T) {
	yaml := "  trip: {all: [{minCalls: 5}, {failureRate: 0.5}]}\n"
	check(t, yaml, story("1 a SSS", "2 a F", "3 a F"))
	check(t, yaml, story("1 a SSS", "2 a F", "3 a F", "4 a F"), "4 a closed>open failureRate")
}

func TestResilience4jWaitInOpen(t *testing.T) {
	yaml := "  open: {duration: 5s}\n"
	lines := check(t, yaml, story("0 a FFFFF", "0 a ?", "3 a ?", "6 a ?", "6 a !"),
		"0 a closed>open consecutiveFailures", "0 a no open", "3 a no open", "5 a open>half-open deadline", "6 a yes half-open")
	if got := metrics(lines, func(o output) string { return fmt.Sprint(o.State, o.Total) }); got != "half-open0" {
		t.Errorf("window: %s", got)
	}
}

func TestResilience4jPermittedCalls(t *testing.T) {
	yaml := "  open: {duration: 5s}\n  halfOpen: {calls: 4}\n"
	check(t, yaml, story("0 a FFFFF", "6 a ?????", "7 a A", "8 a ??"),
		"0 a closed>open consecutiveFailures", "5 a open>half-open deadline",
		"6 a yes half-open", "6 a yes half-open", "6 a yes half-open", "6 a yes half-open", "6 a no half-open",
		"8 a yes half-open", "8 a no half-open")
}

func TestSentinelSlowRatio(t *testing.T) {
	yaml := "  outcome: {slow: 1s}\n  trip: {all: [{minCalls: 10}, {slowRate: 0.8}]}\n"
	check(t, yaml, story("1 a LLLLLLLSSS", "2 a LLLL"))
	lines := check(t, yaml, story("1 a LLLLLLLSSS", "2 a LLLLL"), "2 a closed>open slowRate")
	if number(lines[0].Value) != "0.8" {
		t.Errorf("opened at %s", number(lines[0].Value))
	}
}

func TestSentinelErrorRatio(t *testing.T) {
	yaml := "  trip: {all: [{minCalls: 10}, {failureRate: 0.5}]}\n"
	check(t, yaml, story("1 a FFFFFFSSS"))
	check(t, yaml, story("1 a FFFFFFSSS", "2 a F"), "2 a closed>open failureRate")
}

func TestFluxgateMinimumAndRate(t *testing.T) {
	yaml := "  trip: {all: [{minCalls: 10}, {failureRate: 0.5}]}\n"
	check(t, yaml, story("1 a FFFSS"))
	check(t, yaml, story("1 a FFFSSSSSSS"))
	check(t, yaml, story("1 a FFFFSSSSS", "2 a F"), "2 a closed>open failureRate")
}

func TestFluxgateRamp(t *testing.T) {
	ramp := load(t, "  halfOpen: {ramp: {from: 0.1, to: 0.8, over: 60s}}\n")[0].Settings.HalfOpen.Ramp
	for seconds, want := range map[int]string{0: "0.10", 30: "0.45", 60: "0.80", 600: "0.80"} {
		if got := fmt.Sprintf("%.2f", ramp.Share(time.Duration(seconds)*time.Second)); got != want {
			t.Errorf("%s at %d s, want %s", got, seconds, want)
		}
	}
}

func TestFluxgateStreakIsClearedByTransitions(t *testing.T) {
	yaml := "  trip: [{consecutiveFailures: 3}, {all: [{state: half-open}, {consecutiveFailures: 3}]}]\n" +
		"  halfOpen: {calls: 3, tolerate: 1}\n"
	check(t, yaml, story("0 a FFF", "31 a F", "32 a ?"),
		"0 a closed>open consecutiveFailures", "30 a open>half-open deadline", "32 a yes half-open")
}

func TestLinkerdSuccessRate(t *testing.T) {
	yaml := "  window: {size: 10s}\n  trip: {all: [{minCalls: 5}, {failureRate: 0.5}]}\n"
	check(t, yaml, story("1 a F", "1.0002 a F", "1.0004 a F", "1.0006 a F", "1.0008 a F"), "1.0008 a closed>open failureRate")
	check(t, yaml, story("1 a F", "2 a F", "3 a F", "4 a F", "5 a F"), "5 a closed>open failureRate")
}

func TestGobreakerThreeProbes(t *testing.T) {
	yaml := "  open: {duration: 5s}\n"
	check(t, yaml, story("0 a FFFFF", "6 a ?SS", "7 a ??", "8 a S"),
		"0 a closed>open consecutiveFailures", "5 a open>half-open deadline",
		"6 a yes half-open", "7 a yes half-open", "7 a no half-open", "8 a half-open>closed probesPassed")
}
