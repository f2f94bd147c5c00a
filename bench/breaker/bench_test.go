package breaker

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/cbagent/cbagent/internal/breaker"
)

// BenchmarkOutcome is one request of a closed circuit, one in ten a failure: what it costs to ask whether it may be sent,
// to record how it ended, and to decide. "record" leaves the asking out, as in the agent it is the kernel that is asked.
func BenchmarkOutcome(b *testing.B) {
	ratio := func(n int) breaker.Trip {
		return all(breaker.Trip{Kind: breaker.TripMinCalls, N: n}, breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.5})
	}
	everything := breaker.Trip{Kind: breaker.TripAny, Children: []breaker.Trip{
		{Kind: breaker.TripConsecutiveFailures, N: 5},
		ratio(20),
		all(breaker.Trip{Kind: breaker.TripMinCalls, N: 20}, breaker.Trip{Kind: breaker.TripSlowRate, Rate: 0.5}),
		{Kind: breaker.TripAvgLatency, Over: time.Second},
		all(breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.9}, breaker.Trip{Kind: breaker.TripMinClients, N: 3}),
	}}
	for _, test := range []struct {
		name   string
		window breaker.Window
		trip   breaker.Trip
	}{
		{"count window", count(100), ratio(100)},
		{"time window", seconds(10), ratio(100)},
		{"time window, every tripper", seconds(10), everything},
	} {
		settings := func(s *breaker.Settings) { s.Window, s.Trip, s.Outcome.Slow = test.window, test.trip, time.Second }
		b.Run("cbagent "+test.name+"/ask+record", func(b *testing.B) { benchOurs(b, newOurs(b, settings).circuit, true) })
		b.Run("cbagent "+test.name+"/record", func(b *testing.B) { benchOurs(b, newOurs(b, settings).circuit, false) })
	}
	failsafe := func(c circuitbreaker.CircuitBreaker[any]) func(bool) bool {
		return func(failed bool) bool {
			ok := c.TryAcquirePermit()
			if failed {
				c.RecordFailure()
			} else {
				c.RecordSuccess()
			}
			return ok
		}
	}
	gobreak := func(s gobreaker.Settings) func(bool) bool {
		s.ReadyToTrip = func(c gobreaker.Counts) bool { return c.Requests >= 100 && c.TotalFailures*2 >= c.Requests }
		c := gobreaker.NewTwoStepCircuitBreaker[any](s)
		return func(failed bool) bool {
			done, err := c.Allow()
			if err != nil {
				return false
			}
			if failed {
				err = errBad
			}
			done(err)
			return true
		}
	}
	for _, test := range []struct {
		name string
		one  func(failed bool) bool
	}{
		{"failsafe-go count window", failsafe(circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(50, 100).Build())},
		{"failsafe-go time window", failsafe(circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 100, 10*time.Second).Build())},
		{"gobreaker no window", gobreak(gobreaker.Settings{})},
		{"gobreaker time window", gobreak(gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second})},
	} {
		b.Run(test.name+"/ask+record", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !test.one(i%10 == 9) {
					b.Fatal("the circuit opened")
				}
			}
		})
	}
	b.Run("sentinel-golang time window/ask+record", func(b *testing.B) {
		startSentinel(b, errorRatio(100, 0.5, 1))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			done := askSentinel()
			if done == nil {
				b.Fatal("the circuit opened")
			}
			r := good
			if i%10 == 9 {
				r = bad
			}
			done(r)
		}
	})
}

func benchOurs(b *testing.B, c *breaker.Circuit, ask bool) {
	o := breaker.Outcome{Result: 200, HasLatency: true, Latency: 3 * time.Millisecond}
	events := make([]breaker.Event, 0, 4)
	now := breaker.Time(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now += 1000
		if ask {
			var a breaker.Admission
			if a, events = c.Allow(now, events[:0]); !a.Admitted {
				b.Fatal("the circuit opened")
			}
			o.Generation = a.Generation
		}
		o.Result = 200
		if i%10 == 9 {
			o.Result = 503
		}
		o.Latency++ // so that no two are equal
		_, events = c.Record(now, &o, events[:0])
	}
	if c.State() != breaker.StateClosed {
		b.Fatal("the circuit opened")
	}
}

const many = 100_000

// BenchmarkManyCircuits is one process with 100,000 circuits of a 10 s window: the memory of each when idle and when every
// bucket is in use, and the cost of a tick when nothing is due and when a thousand openings end at once.
func BenchmarkManyCircuits(b *testing.B) {
	before := heap()
	s := breaker.DefaultSettings()
	g, err := breaker.NewGroup("many", s, 1)
	if err != nil {
		b.Fatal(err)
	}
	circuits := make([]*breaker.Circuit, many)
	for i := range circuits {
		circuits[i] = g.Add(fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255), 0)
	}
	idle := heap()
	o := breaker.Outcome{Result: 200, HasLatency: true, Latency: time.Millisecond}
	for second := range breaker.Time(10) {
		for _, c := range circuits {
			c.Record(second*breaker.Time(time.Second), &o, nil)
		}
	}
	full := heap()
	now := breaker.Time(10 * time.Second)
	b.Run("tick with nothing due", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			now++
			g.Advance(now, nil)
		}
		b.ReportMetric(float64(idle-before)/many, "B/idle-circuit")
		b.ReportMetric(float64(full-before)/many, "B/full-circuit")
	})
	b.Run("tick that ends 1000 openings", func(b *testing.B) {
		events := make([]breaker.Event, 0, 1000)
		o := breaker.Outcome{Result: 503}
		for b.Loop() {
			b.StopTimer()
			for _, c := range circuits[:1000] {
				for c.State() != breaker.StateOpen {
					a, _ := c.Allow(now, nil)
					o.Generation, o.Permit, o.Began = a.Generation, a.Permit, now
					c.Record(now, &o, nil)
				}
			}
			now = now.Add(10 * time.Minute)
			b.StartTimer()
			if events = g.Advance(now, events[:0]); len(events) != 1000 {
				b.Fatalf("%d events", len(events))
			}
		}
	})
	runtime.KeepAlive(circuits)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
