package breaker

import (
	"testing"
	"time"

	sentinel "github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/circuitbreaker"
	"github.com/alibaba/sentinel-golang/core/config"
	"github.com/alibaba/sentinel-golang/logging"
	"github.com/alibaba/sentinel-golang/util"
	"pgregory.net/rapid"

	"github.com/cbagent/cbagent/internal/breaker"
)

const resource = "bench"

// startSentinel makes its one global instance quiet and gives it the rules.
func startSentinel(t testing.TB, rule *circuitbreaker.Rule) {
	t.Helper()
	c := config.NewDefaultConfig()
	c.Sentinel.Log.Logger = logging.NewConsoleLogger()
	c.Sentinel.Log.Metric.FlushIntervalSec = 0
	c.Sentinel.Stat.System.CollectIntervalMs = 0
	c.Sentinel.Stat.System.CollectLoadIntervalMs = 0
	c.Sentinel.Stat.System.CollectCpuIntervalMs = 0
	c.Sentinel.Stat.System.CollectMemoryIntervalMs = 0
	logging.ResetGlobalLoggerLevel(logging.ErrorLevel)
	if err := sentinel.InitWithConfig(c); err != nil {
		t.Fatal(err)
	}
	loadRule(t, rule)
}

func loadRule(t fataler, rule *circuitbreaker.Rule) {
	if err := circuitbreaker.ClearRules(); err != nil {
		t.Fatal(err)
	}
	if _, err := circuitbreaker.LoadRules([]*circuitbreaker.Rule{rule}); err != nil {
		t.Fatal(err)
	}
}

func askSentinel() func(result) {
	entry, block := sentinel.Entry(resource)
	if block != nil {
		return nil
	}
	return func(r result) {
		if r == bad {
			sentinel.TraceError(entry, errBad)
		}
		entry.Exit()
	}
}

// TestLikeSentinel: the error ratio over ten seconds in buckets of one, then so many good probes.
func TestLikeSentinel(t *testing.T) {
	clock := util.NewMockClock()
	util.SetClock(clock)
	defer util.SetClock(util.NewRealClock())
	startSentinel(t, errorRatio(1, 0.5, 1))
	rapid.Check(t, func(t *rapid.T) {
		minimum := rapid.IntRange(1, 12).Draw(t, "minimum")
		rate := rapid.SampledFrom([]float64{0.25, 0.5, 0.8, 1}).Draw(t, "rate")
		calls := rapid.IntRange(1, 4).Draw(t, "calls")
		o := newOurs(t, func(s *breaker.Settings) {
			s.Window = seconds(10)
			s.Trip = all(breaker.Trip{Kind: breaker.TripMinCalls, N: minimum}, breaker.Trip{Kind: breaker.TripFailureRate, Rate: rate})
			s.Open.Duration = 5 * time.Second
			s.HalfOpen = probes(calls)
		})
		loadRule(t, errorRatio(minimum, rate, calls))
		now := func() breaker.Time { return breaker.Time(clock.CurrentTimeMillis()) * breaker.Time(time.Millisecond) }
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				mine, theirs := o.ask(now()), askSentinel()
				if (mine == nil) != (theirs == nil) {
					t.Fatalf("%+v: admitted by us %v, by them %v", o.circuit.Status(), mine != nil, theirs != nil)
				}
				if mine == nil {
					return
				}
				r := rapid.SampledFrom([]result{good, bad}).Draw(t, "result")
				mine(now(), r)
				theirs(r)
			},
			"wait": func(t *rapid.T) {
				clock.Sleep(time.Millisecond * time.Duration(rapid.IntRange(0, 3000).Draw(t, "wait")))
			},
		})
	})
}

func errorRatio(minimum int, rate float64, calls int) *circuitbreaker.Rule {
	return &circuitbreaker.Rule{
		Resource: resource, Strategy: circuitbreaker.ErrorRatio, RetryTimeoutMs: 5000, MinRequestAmount: uint64(minimum),
		StatIntervalMs: 10_000, StatSlidingWindowBucketCount: 10, Threshold: rate, ProbeNum: uint64(calls),
	}
}
