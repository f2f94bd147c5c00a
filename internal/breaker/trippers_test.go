package breaker

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// fed is some equal outcomes at a moment.
type fed struct {
	at     Time
	letter rune
	n      int
	client int
}

// feed records outcomes one by one until the circuit trips, and returns which one that was, from 1, or 0.
func (r *rig) feed(c *Circuit, all []fed) int {
	i := 0
	for _, f := range all {
		r.at(f.at)
		for range f.n {
			i++
			o := outcomeOf(f.letter)
			o.Generation, o.Client = c.Generation(), addr(f.client)
			if _, r.events = c.Record(r.now, &o, r.events); len(r.events) > 0 {
				return i
			}
		}
	}
	return 0
}

func TestTrippers(t *testing.T) {
	second := Trip{Kind: TripSlowRate, Rate: 0.5, Over: time.Second}
	minute := Trip{Kind: TripSlowRate, Rate: 0.5, Over: time.Minute}
	clients := func(n int) Trip { return Trip{Kind: TripMinClients, N: n} }
	mean := func(d time.Duration) Trip { return Trip{Kind: TripAvgLatency, Over: d} }
	not := func(child Trip) Trip { return Trip{Kind: TripNot, Children: []Trip{child}} }
	closed := Trip{Kind: TripState, State: StateClosed}
	halfOpen := Trip{Kind: TripState, State: StateHalfOpen}
	count := func(n int) Trip { return Trip{Kind: TripFailureCount, N: n} }
	for _, test := range []struct {
		name   string
		trip   Trip
		window int // count window of that size; 0 = 10 s
		fed    []fed
		at     int
		reason string
		value  float64
		limit  float64
	}{
		{name: "minCalls", trip: minCalls(3), fed: []fed{{0, 'S', 4, 1}}, at: 3, reason: "minCalls", value: 3, limit: 3},
		{name: "failureRate, equal is enough", trip: failureRate(0.3), fed: []fed{{0, 'S', 7, 1}, {0, 'F', 3, 1}}, at: 10,
			reason: "failureRate", value: 0.3, limit: 0.3},
		{name: "failureRate 1", trip: all(minCalls(3), failureRate(1)), fed: []fed{{0, 'F', 5, 1}}, at: 3,
			reason: "failureRate", value: 1, limit: 1},
		{name: "failureCount", trip: count(3), fed: []fed{{0, 'F', 2, 1}, {9 * sec, 'S', 5, 1}, {9 * sec, 'F', 1, 1}}, at: 8,
			reason: "failureCount", value: 3, limit: 3},
		{name: "failureCount, the first have left", trip: count(3), fed: []fed{{0, 'F', 2, 1}, {10 * sec, 'F', 2, 1}}},
		{name: "streak is not bounded by the window", trip: consecutive(3), window: 2, fed: []fed{{0, 'F', 3, 1}}, at: 3,
			reason: "consecutiveFailures", value: 3, limit: 3},
		{name: "streak is not bounded in time", trip: consecutive(3), fed: []fed{{0, 'F', 2, 1}, {3600 * sec, 'F', 1, 1}}, at: 3,
			reason: "consecutiveFailures", value: 3, limit: 3},
		{name: "ignored ones do not end a streak", trip: consecutive(3), fed: []fed{{0, 'F', 2, 1}, {0, 'A', 1, 1}, {0, 'F', 1, 1}}, at: 4,
			reason: "consecutiveFailures", value: 3, limit: 3},
		{name: "slowRate of its own", trip: second, fed: []fed{{0, 'S', 2, 1}, {0, 'L', 2, 1}}, at: 4, reason: "slowRate", value: 0.5, limit: 0.5},
		{name: "slowRate of the other", trip: minute, fed: []fed{{0, 'S', 2, 1}, {0, 'L', 9, 1}}},
		{name: "slow failures are slow", trip: second, fed: []fed{{0, 'S', 1, 1}, {0, 'X', 1, 1}}, at: 2, reason: "slowRate", value: 0.5, limit: 0.5},
		{name: "avgLatency", trip: mean(1550 * time.Millisecond), fed: []fed{{0, 'S', 2, 1}, {0, 'L', 2, 1}}, at: 4,
			reason: "avgLatency", value: 1.55, limit: 1.55},
		{name: "avgLatency of a window that forgets", trip: mean(3 * time.Second), window: 2, fed: []fed{{0, 'S', 2, 1}, {0, 'L', 2, 1}}, at: 4,
			reason: "avgLatency", value: 3, limit: 3},
		{name: "minClients", trip: clients(3), fed: []fed{{0, 'F', 5, 1}, {0, 'F', 5, 2}, {0, 'S', 5, 4}, {0, 'F', 5, 3}}, at: 16,
			reason: "minClients", value: 3, limit: 3},
		{name: "minClients, one has left", trip: clients(3), fed: []fed{{0, 'F', 1, 1}, {9 * sec, 'F', 1, 2}, {10 * sec, 'F', 1, 3}}},
		{name: "minClients, one was seen again", trip: clients(3), at: 4, reason: "minClients", value: 3, limit: 3,
			fed: []fed{{0, 'F', 1, 1}, {1 * sec, 'F', 1, 1}, {9 * sec, 'F', 1, 2}, {10 * sec, 'F', 1, 3}}},
		{name: "minClients of a count window", trip: clients(3), window: 4, fed: []fed{{0, 'F', 1, 1}, {0, 'F', 1, 2}, {0, 'S', 1, 2}, {0, 'F', 1, 3}},
			at: 4, reason: "minClients", value: 3, limit: 3},
		{name: "minClients of a count window, one has left", trip: clients(3), window: 3,
			fed: []fed{{0, 'F', 1, 1}, {0, 'F', 1, 2}, {0, 'S', 1, 2}, {0, 'F', 1, 3}}},
		{name: "minClients beyond sixteen", trip: clients(40), fed: eachOnce('F', 45), at: 40, reason: "minClients", value: 40, limit: 40},
		{name: "any names the first true child in file order", trip: anyOf(count(3), consecutive(3)), fed: []fed{{0, 'F', 3, 1}}, at: 3,
			reason: "failureCount", value: 3, limit: 3},
		{name: "all names its last child that is no condition", trip: all(count(2), failureRate(0.5), minCalls(2), clients(1), closed, not(halfOpen)),
			fed: []fed{{0, 'F', 2, 1}}, at: 2, reason: "failureRate", value: 1, limit: 0.5},
		{name: "all of an any", trip: all(minCalls(2), anyOf(failureRate(0.9), count(1))), fed: []fed{{0, 'S', 1, 1}, {0, 'F', 1, 1}}, at: 2,
			reason: "failureCount", value: 1, limit: 1},
		{name: "all of conditions only", trip: all(closed, minCalls(2)), fed: []fed{{0, 'S', 2, 1}}, at: 2,
			reason: "minCalls", value: 2, limit: 2},
		{name: "not", trip: all(count(2), not(minCalls(4))), fed: []fed{{0, 'S', 2, 1}, {0, 'F', 2, 1}}},
		{name: "not, before", trip: all(count(2), not(minCalls(4))), fed: []fed{{0, 'S', 1, 1}, {0, 'F', 2, 1}}, at: 3,
			reason: "failureCount", value: 2, limit: 2},
		{name: "not alone", trip: not(minCalls(1)), fed: []fed{{0, 'S', 2, 1}}},
		{name: "state", trip: all(halfOpen, minCalls(1)), fed: []fed{{0, 'F', 9, 1}}},
		{name: "nothing of an empty window", trip: anyOf(failureRate(0.1), second, mean(time.Microsecond), clients(1)), fed: []fed{{0, 'A', 3, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, func(s *Settings) {
				s.Trip = test.trip
				if test.window > 0 {
					s.Window = Window{Type: WindowCount, Count: test.window}
				}
			})
			c := r.circuit("a")
			if at := r.feed(c, test.fed); at != test.at {
				t.Fatalf("tripped at %d, want %d", at, test.at)
			}
			if test.at == 0 {
				return
			}
			e := r.events[0]
			if got, want := fmt.Sprintln(e.Reason, e.Value, e.Threshold), fmt.Sprintln(test.reason, test.value, test.limit); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		})
	}
}

func eachOnce(letter rune, n int) (all []fed) {
	for i := range n {
		all = append(all, fed{at: 0, letter: letter, n: 1, client: i + 1})
	}
	return all
}

func TestUnknownClientsDoNotCount(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Trip = Trip{Kind: TripMinClients, N: 1} })
	c := r.circuit("a")
	r.send(c, "FFFF")
	r.wantState(c, StateClosed)
}

func TestStreakOfClasses(t *testing.T) {
	of := &ResultSet{}
	of.Add(404) // not a failure
	of.Add(503)
	r := newRig(t, func(s *Settings) { s.Trip = Trip{Kind: TripConsecutiveFailures, N: 3, Of: of} })
	c := r.circuit("a")
	for _, test := range []struct {
		results []Result
		trips   bool
	}{
		{[]Result{404, 503, 500, 503, 404}, false},
		{[]Result{200, 404, 503, 200}, false},
		{[]Result{404, 503, ResultAborted, 404}, true},
	} {
		for i, result := range test.results {
			_, events := c.Record(0, &Outcome{Result: result}, nil)
			if want := test.trips && i == len(test.results)-1; len(events) > 0 != want {
				t.Fatalf("%v: %v at %d", test.results, events, i)
			}
		}
	}
}

// TestOutlierInTheMiddleOfMany: the fifth of many successes brings a backend to minCalls and trips; at the end of them it
// would be no outlier any more.
func TestOutlierInTheMiddleOfMany(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = Trip{Kind: TripSuccessRateOutlier, Stdev: 1.9, MinBackends: 5, N: 9}
	})
	for i, failures := range []uint64{0, 1, 0, 0, 0, 0} {
		c := r.circuit(fmt.Sprint("other", i))
		c.RecordN(0, &Outcome{Result: 500}, failures, nil)
		c.RecordN(0, &Outcome{Result: 200}, 10, nil)
	}
	c := r.circuit("a")
	c.RecordN(0, &Outcome{Result: 500}, 4, nil)
	rest, _, events := c.RecordN(0, &Outcome{Result: 200}, 4000, nil)
	if rest != 3995 || len(events) != 1 || events[0].Value != 5.0/9 {
		t.Fatalf("rest %d, %+v", rest, events)
	}
}

func TestEqualRatesAreNoOutliers(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = Trip{Kind: TripSuccessRateOutlier, Stdev: 0, MinBackends: 2, N: 10}
	})
	for i := range 10 {
		c := r.circuit(fmt.Sprint(i))
		r.send(c, "FSSSSSSSSS")
		r.wantEvents()
	}
}

func TestOutlierReadsWindowsAsOfNow(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = Trip{Kind: TripSuccessRateOutlier, Stdev: 0.5, MinBackends: 2, N: 10}
	})
	a, b := r.circuit("a"), r.circuit("b")
	r.send(b, "SSSSSSSSSS")
	r.at(10*sec).send(a, "FFFFFFFFFFFF") // the outcomes of b have left
	r.wantEvents()
	r.send(b, "SSSSSSSSSS")
	r.at(20*sec).send(a, "FFFFFFFFFFFF") // once more
	r.wantEvents()
	r.send(b, "SSSSSSSSSS")
	r.send(a, "F")
	r.wantEvents("20 closed>open successRateOutlier")
}

func TestWaitOfAnOpening(t *testing.T) {
	noDraw := func() float64 { t.Fatal("drawn although there is no jitter"); return 0 }
	for _, test := range []struct {
		o    Open
		step int
		want time.Duration
	}{
		{Open{Duration: time.Second, Max: time.Hour}, 9, time.Second},
		{Open{Duration: time.Second, Backoff: BackoffLinear, Max: time.Hour}, 9, 9 * time.Second},
		{Open{Duration: time.Second, Backoff: BackoffExponential, Multiplier: 3, Max: time.Hour}, 3, 9 * time.Second},
		{Open{Duration: time.Second, Backoff: BackoffExponential, Multiplier: 3, Max: time.Hour}, 1_000_000, time.Hour},
		{Open{Duration: time.Hour, Backoff: BackoffLinear, Max: 2 * time.Hour}, math.MaxInt32, 2 * time.Hour},
		{Open{Duration: time.Hour, Max: time.Minute}, 1, time.Minute},
	} {
		if got, jitter := test.o.wait(test.step, noDraw); got != test.want || jitter != 0 {
			t.Errorf("%+v step %d: %v and %v jitter, want %v", test.o, test.step, got, jitter, test.want)
		}
	}
	o := Open{Duration: 10 * time.Second, Backoff: BackoffExponential, Multiplier: 2, Max: time.Minute, Jitter: 0.2}
	for draw, want := range map[float64]time.Duration{0: 16 * time.Second, 0.5: 20 * time.Second, 1: 24 * time.Second} {
		if got, jitter := o.wait(2, func() float64 { return draw }); got != want || jitter != want-20*time.Second {
			t.Errorf("draw %v: %v and %v jitter, want %v", draw, got, jitter, want)
		}
	}
	o.Jitter = 1
	for draw, want := range map[float64]time.Duration{0: 0, 1: time.Minute} {
		if got, _ := o.wait(5000, func() float64 { return draw }); got != want {
			t.Errorf("step 5000, draw %v: %v, want %v", draw, got, want)
		}
	}
}

func TestJitterIsDrawnOncePerOpening(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Open.Jitter = 0.5 })
	seen := map[Time]bool{}
	for i := range 20 {
		c := r.circuit(fmt.Sprint(i))
		r.send(c, "FFFFF")
		until := c.Status().Until
		if until < 15*sec || until > 45*sec {
			t.Fatalf("opened until %v", until)
		}
		for range 5 {
			if a, _ := c.Allow(1*sec, nil); a.Admitted || c.Status().Until != until {
				t.Fatalf("asking moved the deadline from %v to %v", until, c.Status().Until)
			}
		}
		seen[until] = true
		r.now = 0
		r.group.now = 0
	}
	if len(seen) < 15 {
		t.Fatalf("%d different deadlines of 20", len(seen))
	}
}
