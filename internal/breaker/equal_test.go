package breaker

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawTrip draws any valid trip.
func drawTrip(t *rapid.T, depth int) Trip {
	kinds := []TripKind{TripMinCalls, TripFailureRate, TripSlowRate, TripFailureCount, TripConsecutiveFailures, TripAvgLatency,
		TripSuccessRateOutlier, TripPendingAge, TripMinClients, TripState}
	if depth > 0 {
		kinds = append(kinds, TripAny, TripAll, TripNot, TripAny, TripAll)
	}
	small := rapid.IntRange(1, 9)
	over := rapid.SampledFrom([]time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, time.Second})
	trip := Trip{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	switch trip.Kind {
	case TripAny, TripAll:
		for range rapid.IntRange(1, 3).Draw(t, "children") {
			trip.Children = append(trip.Children, drawTrip(t, depth-1))
		}
	case TripNot:
		trip.Children = []Trip{drawTrip(t, depth-1)}
	case TripMinCalls, TripFailureCount, TripMinClients:
		trip.N = small.Draw(t, "n")
	case TripConsecutiveFailures:
		trip.N = small.Draw(t, "n")
		if rapid.Bool().Draw(t, "of some classes") {
			trip.Of = new(ResultSet)
			for range 2 {
				trip.Of.Add(rapid.SampledFrom([]Result{200, 404, 500, 503, ResultTimeout}).Draw(t, "of"))
			}
		}
	case TripFailureRate:
		trip.Rate = rapid.SampledFrom([]float64{0.1, 1.0 / 3, 0.5, 0.9, 1}).Draw(t, "rate")
	case TripSlowRate:
		trip.Rate = rapid.SampledFrom([]float64{0.1, 0.5, 1}).Draw(t, "rate")
		if rapid.Bool().Draw(t, "own threshold") {
			trip.Over = over.Draw(t, "over")
		}
	case TripAvgLatency, TripPendingAge:
		trip.Over = over.Draw(t, "over")
	case TripSuccessRateOutlier:
		trip.N, trip.MinBackends = small.Draw(t, "minCalls"), rapid.IntRange(1, 3).Draw(t, "minBackends")
		trip.Stdev = rapid.SampledFrom([]float64{0, 0.5, 1.9}).Draw(t, "stdev")
	case TripState:
		trip.State = rapid.SampledFrom([]State{StateClosed, StateHalfOpen}).Draw(t, "state")
	}
	return trip
}

func drawSettings(t *rapid.T) Settings {
	s := DefaultSettings()
	s.Trip = drawTrip(t, 3)
	s.Outcome.Slow = rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond}).Draw(t, "slow")
	if rapid.Bool().Draw(t, "count window") {
		s.Window = Window{Type: WindowCount, Count: rapid.IntRange(1, 20).Draw(t, "size")}
	}
	s.Open.Duration = time.Second
	s.Open.Jitter = rapid.SampledFrom([]float64{0, 0.3}).Draw(t, "jitter")
	calls := rapid.IntRange(0, 4).Draw(t, "calls")
	s.HalfOpen.Calls, s.HalfOpen.Concurrent = calls, calls
	if calls > 1 {
		s.HalfOpen.Tolerate = rapid.IntRange(0, calls-1).Draw(t, "tolerate")
		s.HalfOpen.Concurrent = rapid.IntRange(1, calls).Draw(t, "concurrent")
	}
	if rapid.IntRange(0, 3).Draw(t, "ramp") == 0 {
		s.HalfOpen = HalfOpen{Ramp: &Ramp{From: 0.5, To: 1, Over: 2 * time.Second}}
	}
	s.Mode = rapid.SampledFrom([]Mode{ModeEnforce, ModeEnforce, ModeMonitor}).Draw(t, "mode")
	s.Ejection.MinHealthy = rapid.IntRange(0, 2).Draw(t, "minHealthy")
	s.Ejection.MaxPercent = rapid.SampledFrom([]float64{100, 50}).Draw(t, "maxPercent")
	return s
}

func drawOutcome(t *rapid.T) Outcome {
	o := Outcome{
		Result: rapid.SampledFrom([]Result{200, 200, 200, 404, 500, 500, 503, ResultTimeout, ResultAborted, ResultAbandoned, ResultRaced}).Draw(t, "result"),
		Client: addr(rapid.IntRange(0, 5).Draw(t, "client")),
	}
	if rapid.IntRange(0, 3).Draw(t, "timed") > 0 {
		o.HasLatency = true
		o.Latency = rapid.SampledFrom([]time.Duration{0, time.Millisecond, 20 * time.Millisecond, 2 * time.Second}).Draw(t, "latency")
	}
	return o
}

// withoutCircuits makes events of two groups comparable.
func withoutCircuits(events []Event) []Event {
	for i := range events {
		events[i].Circuit = nil
	}
	return events
}

// TestManyAtOnceAreAsManyOneByOne drives two equal groups, one by RecordN and one by Record.
func TestManyAtOnceAreAsManyOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettings(t)
		var groups [2]*Group
		for i := range groups {
			g, err := NewGroup("p", s, 1)
			if err != nil {
				t.Fatal(err)
			}
			groups[i] = g
			for _, backend := range []string{"a", "b", "c"} {
				g.Add(backend, 0)
			}
		}
		now := Time(0)
		t.Repeat(map[string]func(*rapid.T){
			"record": func(t *rapid.T) {
				backend := rapid.SampledFrom([]string{"a", "a", "b", "c"}).Draw(t, "backend")
				o := drawOutcome(t)
				n := uint64(rapid.IntRange(1, 40).Draw(t, "n"))
				one, many := groups[0].Circuit(backend), groups[1].Circuit(backend)
				o.Generation, o.Began, o.Permit = one.Generation(), now, true
				var want, got []Event
				for range n {
					_, want = one.Record(now, &o, want)
				}
				for n > 0 {
					n, _, got = many.RecordN(now, &o, n, got)
				}
				if !reflect.DeepEqual(withoutCircuits(want), withoutCircuits(got)) {
					t.Fatalf("one by one: %+v\nmany at once: %+v", want, got)
				}
			},
			"wait": func(t *rapid.T) {
				now += Time(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "wait"))
				for _, g := range groups {
					g.Advance(now, nil)
				}
			},
			"pending": func(t *rapid.T) {
				backend := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "backend")
				for _, g := range groups {
					g.Circuit(backend).SetOldestPending(now, true)
				}
			},
			"": func(t *rapid.T) {
				for i, one := range groups[0].Circuits() {
					many := groups[1].Circuits()[i]
					if a, b := one.Metric(now), many.Metric(now); a != b {
						t.Fatalf("%s: one by one %+v, many at once %+v", one.Backend(), a, b)
					}
					if a, b := one.Status(), many.Status(); a != b {
						t.Fatalf("%s: one by one %+v, many at once %+v", one.Backend(), a, b)
					}
					if a, b := one.Snapshot(), many.Snapshot(); a != b {
						t.Fatalf("%s: one by one %+v, many at once %+v", one.Backend(), a, b)
					}
				}
				if a, b := groups[0].NextDeadline(), groups[1].NextDeadline(); a != b {
					t.Fatalf("one by one waits for %v, many at once for %v", a, b)
				}
			},
		})
	})
}

// TestProgramsSayWhatTheirTreesSay compares the jumps with a walk through the tree.
func TestProgramsSayWhatTheirTreesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettings(t)
		g, err := NewGroup("p", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := g.Add("a", 0)
		now := Time(0)
		for range rapid.IntRange(0, 30).Draw(t, "outcomes") {
			now += Time(rapid.Int64Range(0, int64(time.Second)).Draw(t, "wait"))
			o := drawOutcome(t)
			kind := g.plan.class(o.Result)
			c.learn(now, &o, g.plan.sample(&o, kind), 1)
			if rapid.Bool().Draw(t, "pending") {
				c.pending, c.pendingKnown = now, true
			}
			for _, p := range []*program{&g.plan.closed, &g.plan.halfOpen} {
				if len(p.leaves) == 0 {
					continue
				}
				if got, want := p.holds(c, now), p.nodeHolds(&p.tree, c, now); got != want {
					t.Fatalf("%+v: jumps say %v, the tree %v", s.Trip, got, want)
				}
			}
		}
	})
}

func TestRecordSuccessesIsAsManyRecords(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Trip = all(minCalls(50), failureRate(0.2)) })
	c := r.circuit("a")
	r.send(c, "FFFFFFFFFF")
	j, events := c.RecordSuccesses(1*sec, 0, 1000, 1000*time.Millisecond+7, nil)
	if j != Judged || len(events) != 1 || events[0].Value != 0.2 || events[0].At != 1*sec {
		t.Fatalf("%v %+v", j, events)
	}
	if m := c.Metric(1 * sec); m.Total != 0 {
		t.Fatalf("those after the trip were judged: %+v", m)
	}
	if j, _ := c.RecordSuccesses(1*sec, 0, 10, 0, nil); j != Stale {
		t.Fatal(j)
	}
	d := r.circuit("b")
	d.RecordSuccesses(2*sec, 0, 10, 107, nil)
	if m := d.Metric(2 * sec); m.Total != 10 || m.TotalDuration() != 107 {
		t.Fatalf("%+v", m)
	}
}

func TestOverflowsOfKnownNumbersAreReportedOnce(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = all(minCalls(10), failureRate(0.5))
		s.Ejection.MinHealthy = 1
	})
	c := r.circuit("a")
	_, events := c.RecordLost(0, 0, 20, 5, nil)
	if len(events) != 2 || c.Status().Overflows != 16 { // the failures' first and the slow ones' first
		t.Fatalf("%d overflows, %+v", c.Status().Overflows, events)
	}
}

func TestLostOutcomes(t *testing.T) {
	of := ResultSet{}
	of.Add(503)
	r := newRig(t, func(s *Settings) {
		s.Trip = anyOf(Trip{Kind: TripConsecutiveFailures, N: 3, Of: &of}, Trip{Kind: TripSlowRate, Rate: 0.9, Over: 10 * time.Millisecond},
			Trip{Kind: TripSlowRate, Rate: 0.9, Over: time.Second}, all(minCalls(9), Trip{Kind: TripAvgLatency, Over: time.Second}))
		s.Outcome.Slow = 2 * time.Second
	})
	c := r.circuit("a")
	o := Outcome{Result: 503}
	c.Record(0, &o, nil)
	c.Record(0, &o, nil)
	_, events := c.RecordLost(0, 0, 4, 1, nil)
	if len(events) != 0 {
		t.Fatalf("%+v", events)
	}
	if m := c.Metric(0); m.Total != 7 || m.Failures != 6 || m.Slow != 0 || m.Timed != 0 {
		t.Fatalf("%+v", m)
	}
	if slow := c.window.slow; slow[1] != 1 || slow[2] != 0 {
		t.Fatalf("slow counts %v", slow)
	}
	if _, events = c.Record(0, &o, nil); len(events) != 1 || events[0].Value != 3 {
		t.Fatalf("%+v", events)
	}
}

func TestNothingIsAllocatedForAnOutcome(t *testing.T) {
	for _, window := range []Window{{Type: WindowCount, Count: 50}, {Type: WindowTime, Size: 10 * time.Second, Bucket: time.Second}} {
		r := newRig(t, func(s *Settings) {
			s.Window = window
			s.Outcome.Slow = time.Second
			s.Trip = anyOf(consecutive(5), all(minCalls(20), failureRate(0.5)), Trip{Kind: TripSlowRate, Rate: 0.9},
				Trip{Kind: TripSlowRate, Rate: 0.9, Over: 2 * time.Second}, Trip{Kind: TripAvgLatency, Over: time.Hour},
				Trip{Kind: TripSuccessRateOutlier, Stdev: 1.9, MinBackends: 1, N: 10},
				all(Trip{Kind: TripFailureCount, N: 1_000_000}, Trip{Kind: TripMinClients, N: 10}))
		})
		c := r.circuit("a")
		buf := make([]Event, 0, 16)
		now := Time(0)
		letters := "SSLSSFSSLX"
		i := 0
		one := func() {
			now += 300 * ms
			o := outcomeOf(rune(letters[i%len(letters)]))
			o.Latency += time.Duration(i)
			o.Generation = c.Generation()
			o.Client = addr(i)
			i++
			_, buf = c.Record(now, &o, buf[:0])
			c.RecordSuccesses(now, c.Generation(), 3, time.Second, buf)
			buf = r.group.Advance(now, buf)
		}
		for range 200 {
			one()
		}
		if n := testing.AllocsPerRun(1000, one); n != 0 {
			t.Errorf("%v window: %v allocations", window.Type, n)
		}
		if c.State() != StateClosed {
			t.Error("the circuit is not closed")
		}
	}
}
