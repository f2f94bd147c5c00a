package breaker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	ms  = Time(time.Millisecond)
	sec = Time(time.Second)
)

// rig is a group and what it has reported.
type rig struct {
	testing.TB
	group  *Group
	now    Time
	events []Event
}

func newRig(t testing.TB, change func(*Settings)) *rig {
	t.Helper()
	s := DefaultSettings()
	if change != nil {
		change(&s)
	}
	g, err := NewGroup("p", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{TB: t, group: g}
}

func (r *rig) circuit(backend string) *Circuit { return r.group.Add(backend, r.now) }

// at moves the clock.
func (r *rig) at(t Time) *rig {
	r.now = t
	r.events = r.group.Advance(t, r.events)
	return r
}

// send records outcomes: S success, F failure, L slow success, X slow failure, A aborted. They take permits in half-open.
func (r *rig) send(c *Circuit, letters string) {
	r.Helper()
	for _, letter := range letters {
		var a Admission
		a, r.events = c.Allow(r.now, r.events)
		if !a.Admitted {
			r.Fatalf("at %v: not admitted: %+v", r.now, a)
		}
		r.finish(c, a, letter)
	}
}

func (r *rig) finish(c *Circuit, a Admission, letter rune) Judgement {
	o := outcomeOf(letter)
	o.Generation, o.Permit, o.Began = a.Generation, a.Permit, r.now
	var j Judgement
	j, r.events = c.Record(r.now, &o, r.events)
	return j
}

func outcomeOf(letter rune) Outcome {
	o := Outcome{Result: 200, HasLatency: true, Latency: 100 * time.Millisecond}
	switch letter {
	case 'F':
		o.Result = 500
	case 'L':
		o.Latency = 3 * time.Second
	case 'X':
		o.Result, o.Latency = 500, 3*time.Second
	case 'A':
		o.Result = ResultAborted
	}
	return o
}

// wantEvents compares all events since the last call, each as "t from>to reason step until".
func (r *rig) wantEvents(want ...string) {
	r.Helper()
	var got []string
	for _, e := range r.events {
		text := fmt.Sprintf("%v %s>%s %s", time.Duration(e.At).Seconds(), e.From, e.To, e.Reason)
		if e.Kind != EventTransition {
			text += " " + e.Kind.String()
		}
		got = append(got, text)
	}
	r.events = r.events[:0]
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.Fatalf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *rig) wantState(c *Circuit, want State) {
	r.Helper()
	if c.State() != want {
		r.Fatalf("at %v: state %v, want %v", time.Duration(r.now), c.State(), want)
	}
}

func consecutive(n int) Trip { return Trip{Kind: TripConsecutiveFailures, N: n} }

func all(children ...Trip) Trip { return Trip{Kind: TripAll, Children: children} }

func anyOf(children ...Trip) Trip { return Trip{Kind: TripAny, Children: children} }

func minCalls(n int) Trip { return Trip{Kind: TripMinCalls, N: n} }

func failureRate(r float64) Trip { return Trip{Kind: TripFailureRate, Rate: r} }

func never() Trip { return Trip{Kind: TripState, State: StateHalfOpen} }

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
}

func TestCircuitLife(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.at(1*sec).send(c, "SSFFFFF")
	r.wantEvents("1 closed>open consecutiveFailures")
	if got := c.Status(); got.Until != 31*sec || got.Step != 1 || got.Openings != 1 || got.Generation != 1 {
		t.Fatalf("status %+v", got)
	}
	r.at(31*sec-1).wantState(c, StateOpen)
	r.at(31*sec).wantState(c, StateHalfOpen)
	if m := c.Metric(r.now); m.Total != 0 {
		t.Fatalf("window of a half-open circuit has %d", m.Total)
	}
	r.send(c, "SS")
	r.wantState(c, StateHalfOpen)
	r.at(40*sec).send(c, "S")
	r.wantEvents("31 open>half-open deadline", "40 half-open>closed probesPassed")
}

func TestHalfOpenProbes(t *testing.T) {
	for _, test := range []struct {
		probes   string
		calls    int
		tolerate int
		want     string
	}{
		{"SSS", 3, 0, "closed probesPassed"},
		{"SF", 3, 0, "open probeFailed"},
		{"L", 3, 0, "open probeFailed"},
		{"SFS", 3, 1, "closed probesPassed"},
		{"FF", 3, 1, "open probeFailed"},
		{"ASASAS", 3, 0, "closed probesPassed"},
		{"S", 1, 0, "closed probesPassed"},
	} {
		t.Run(test.probes, func(t *testing.T) {
			r := newRig(t, func(s *Settings) {
				s.Outcome.Slow = time.Second
				s.HalfOpen.Calls, s.HalfOpen.Concurrent, s.HalfOpen.Tolerate = test.calls, test.calls, test.tolerate
			})
			c := r.circuit("a")
			r.send(c, "FFFFF")
			r.at(30 * sec)
			r.events = r.events[:0]
			for i, letter := range test.probes {
				r.wantState(c, StateHalfOpen)
				r.at(30*sec+Time(i)).send(c, string(letter))
			}
			if len(r.events) != 1 || fmt.Sprintf("%s %s", r.events[0].To, r.events[0].Reason) != test.want {
				t.Fatalf("got %+v, want %s", r.events, test.want)
			}
		})
	}
}

func TestProbeTimeout(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.at(35 * sec)
	a, _ := c.Allow(r.now, nil)
	r.at(64*sec).wantState(c, StateHalfOpen)
	r.at(100 * sec)
	r.wantEvents("0 closed>open consecutiveFailures", "30 open>half-open deadline", "65 half-open>open probeTimeout")
	if c.Status().Until != 125*sec {
		t.Fatalf("until %v", c.Status().Until)
	}
	o := Outcome{Result: 200, Permit: true, Generation: a.Generation, Began: 35 * sec}
	if j, _ := c.Record(r.now, &o, nil); j != Stale {
		t.Fatalf("late probe: %v", j)
	}
}

func TestTimedOutProbeReportsLate(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.HalfOpen.Tolerate = 1 })
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.at(35 * sec)
	a, _ := c.Allow(r.now, nil)
	r.at(66*sec).wantState(c, StateHalfOpen)
	o := Outcome{Result: 200, Permit: true, Generation: a.Generation, Began: 35 * sec}
	if j, _ := c.Record(r.now, &o, nil); j != NoPermit {
		t.Fatalf("late probe: %v", j)
	}
	if got, want := c.Status().Probes, (Probes{Used: 1, Finished: 1, Bad: 1}); got != want {
		t.Fatalf("probes %+v, want %+v", got, want)
	}
	r.send(c, "SS")
	r.wantState(c, StateClosed)
}

func TestProbeOfTheKernel(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.at(30 * sec)
	g := c.Generation()
	c.Began(31*sec, g, nil)
	c.Began(32*sec, g, nil)
	c.Began(33*sec, g+1, nil)
	if got := c.Status().Probes.InFlight; got != 2 {
		t.Fatalf("%d probes in flight, want 2", got)
	}
	c.Release(34*sec, g, 31*sec, nil)
	for _, began := range []Time{32 * sec, 33 * sec, 34 * sec} { // the last two were never reported
		r.wantState(c, StateHalfOpen)
		c.Record(35*sec, &Outcome{Result: 200, Generation: g, Permit: true, Began: began}, nil)
	}
	r.wantState(c, StateClosed)
}

func TestOutcomesOfEarlierGenerationsAreNotJudged(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	old, _ := c.Allow(0, nil)
	r.send(c, "FFFFF")
	if j := r.finish(c, old, 'S'); j != Stale {
		t.Fatal(j)
	}
	if j := r.finish(c, Admission{Generation: c.Generation()}, 'S'); j != NotJudging {
		t.Fatal(j)
	}
	r.at(30 * sec)
	if j := r.finish(c, old, 'F'); j != Stale {
		t.Fatal(j)
	}
	if j := r.finish(c, Admission{Generation: c.Generation()}, 'F'); j != NoPermit {
		t.Fatal(j)
	}
	r.wantState(c, StateHalfOpen)
}

func TestCallsZeroClosesAtTheDeadline(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.HalfOpen = HalfOpen{} })
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.at(60 * sec)
	r.wantEvents("0 closed>open consecutiveFailures", "30 open>closed deadline")
	if c.Generation() != 2 {
		t.Fatalf("generation %d", c.Generation())
	}
}

func TestStepFallsByEvidence(t *testing.T) {
	s := func(s *Settings) { s.HalfOpen = HalfOpen{}; s.Open.Backoff = BackoffLinear }
	for _, test := range []struct {
		name    string
		seconds []Time // after the third closing, at which a success is seen
		again   Time   // after the third closing
		want    int    // step of the opening then
	}{
		{"at once", nil, 0, 4},
		{"quiet for hours", nil, 36000, 4},
		{"one success in the first period, opened in it", []Time{10}, 29, 4},
		{"one success, one full period", []Time{10}, 30, 3},
		{"many successes in one period", []Time{1, 10, 29}, 59, 3},
		{"two periods", []Time{10, 40}, 60, 2},
		{"two periods with a gap", []Time{10, 310}, 350, 2},
		{"not below zero", []Time{1, 31, 61, 91, 121, 151}, 1000, 1},
		{"on the border belongs to the second", []Time{30}, 59, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, s)
			c := r.circuit("a")
			closed := Time(0)
			for n := Time(1); n <= 3; n++ {
				r.at(closed)
				r.send(c, "FFFFF")
				closed += n * 30 * sec
			}
			for _, second := range test.seconds {
				r.at(closed+second*sec).send(c, "S")
			}
			r.at(closed+test.again*sec).send(c, "FFFFF")
			if got := c.Status().Step; got != test.want {
				t.Fatalf("step %d, want %d", got, test.want)
			}
		})
	}
}

func TestMonitorAdmitsAllAndSaysWhatItWouldHaveDone(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Mode = ModeMonitor })
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.wantState(c, StateOpen)
	if a, _ := c.Allow(1*sec, nil); !a.Admitted || a.WouldAdmit {
		t.Fatalf("%+v", a)
	}
	r.at(30 * sec)
	for i := range 5 {
		a, _ := c.Allow(r.now, nil)
		if !a.Admitted || a.WouldAdmit != (i < 3) || a.Permit != (i < 3) {
			t.Fatalf("%d: %+v", i, a)
		}
	}
}

func TestOverrides(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.events = c.Impose(1*sec, Override{Mode: ModeForcedOpen, Until: 5 * sec, Who: "ann", Why: "deploy"}, r.events)
	if a, _ := c.Allow(2*sec, nil); a.Admitted || a.State != StateForcedOpen {
		t.Fatalf("%+v", a)
	}
	r.at(6 * sec)
	r.wantEvents("1 closed>forced-open manual", "5 forced-open>closed deadline")

	r.events = c.Impose(7*sec, Override{Mode: ModeDisabled, Until: Never}, r.events)
	r.now = 8 * sec
	r.send(c, "FFFFFFFFFF")
	r.events = c.Auto(9*sec, "ann", "done", r.events)
	r.events = c.Impose(10*sec, Override{Mode: ModeMonitor, Until: Never}, r.events)
	r.at(11*sec).send(c, "FFFFF")
	if a, _ := c.Allow(12*sec, nil); !a.Admitted || a.WouldAdmit {
		t.Fatalf("%+v", a)
	}
	r.events = c.Auto(13*sec, "ann", "", r.events)
	if a, _ := c.Allow(13*sec, nil); a.Admitted {
		t.Fatalf("%+v", a)
	}
	r.events = c.Close(14*sec, "ann", "it is well", r.events)
	r.wantEvents("7 closed>disabled manual", "9 disabled>closed manual", "10 closed>closed manual override",
		"11 closed>open consecutiveFailures", "13 open>open manual override", "14 open>closed manual")
	if e := c.Close(15*sec, "ann", "again", nil); len(e) != 0 {
		t.Fatalf("closing a closed circuit: %+v", e)
	}
}

func TestManualCloseForgetsTheBackoff(t *testing.T) {
	for state, calls := range map[State]int{StateOpen: 1, StateHalfOpen: 1, StateClosed: 0} {
		t.Run(state.String(), func(t *testing.T) {
			r := newRig(t, func(s *Settings) { s.HalfOpen = HalfOpen{Calls: calls, Concurrent: calls, Timeout: time.Minute} })
			c := r.circuit("a")
			r.send(c, "FFFFF")
			if state != StateOpen {
				r.at(30 * sec)
			}
			r.wantState(c, state)
			c.Close(r.now, "ann", "mended", nil)
			if got := c.Status(); got.Step != 0 || got.State != StateClosed {
				t.Fatalf("%v with step %d, want closed with step 0", got.State, got.Step)
			}
			r.send(c, "FFFFF")
			if got := c.Status().Step; got != 1 {
				t.Errorf("the next opening has step %d, want 1", got)
			}
		})
	}
}

func TestPendingAge(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Trip = anyOf(Trip{Kind: TripPendingAge, Over: 2 * time.Second}) })
	c := r.circuit("a")
	c.SetOldestPending(1*sec, true)
	if got := r.group.NextDeadline(); got != 3*sec {
		t.Fatalf("next deadline %v", got)
	}
	r.at(3*sec - 1).wantEvents()
	r.at(10 * sec).wantEvents("3 closed>open pendingAge")
	r.at(40 * sec)
	if got := r.group.NextDeadline(); got != 63*sec { // when it gives its place among the ejected up
		t.Fatalf("a half-open circuit without probes waits for %v", got)
	}
}

func TestPendingAgeAnswered(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Trip = Trip{Kind: TripPendingAge, Over: 2 * time.Second} })
	c := r.circuit("a")
	c.SetOldestPending(1*sec, true)
	r.at(2 * sec)
	c.SetOldestPending(2*sec, true)
	r.at(3 * sec).wantEvents()
	c.SetOldestPending(0, false)
	r.at(10 * sec).wantEvents()
	c.SetOldestPending(5*sec, true) // noticed late
	r.at(10 * sec).wantEvents("10 closed>open pendingAge")
}

func TestPendingAgeOverflowsOnceForEachRequest(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = Trip{Kind: TripPendingAge, Over: 2 * time.Second}
		s.Ejection.MinHealthy = 1
	})
	c := r.circuit("a")
	c.SetOldestPending(1*sec, true)
	r.at(60 * sec).wantEvents("3 closed>open pendingAge overflow")
	r.send(c, "S")
	r.wantEvents("60 closed>open pendingAge overflow")
	r.circuit("b")
	r.send(c, "S")
	r.wantEvents("60 closed>open pendingAge")
}

func TestRamp(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.HalfOpen = HalfOpen{Ramp: &Ramp{From: 0.1, To: 0.9, Over: time.Minute}} })
	c := r.circuit("a")
	r.send(c, "FFFFF")
	for _, test := range []struct {
		at   Time
		want float64
	}{{30 * sec, 0.1}, {60 * sec, 0.5}, {89 * sec, 0.9}} {
		r.at(test.at)
		admitted := 0
		for range 10000 {
			if a, _ := c.Allow(r.now, nil); a.Admitted {
				admitted++
			}
		}
		if share := float64(admitted) / 10000; share < test.want-0.03 || share > test.want+0.03 {
			t.Errorf("at %v: %v admitted, want %v", test.at, share, test.want)
		}
	}
	r.at(90*sec).wantEvents("0 closed>open consecutiveFailures", "30 open>half-open deadline", "90 half-open>closed rampPassed")
}

func TestRampTrips(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.HalfOpen = HalfOpen{Ramp: &Ramp{From: 1, To: 1, Over: time.Minute}} })
	c := r.circuit("a")
	r.send(c, "FFFFF")
	r.at(31*sec).send(c, "FFFFF")
	r.wantEvents("0 closed>open consecutiveFailures", "30 open>half-open deadline", "31 half-open>open consecutiveFailures")
	if c.Status().Step != 2 {
		t.Fatal(c.Status().Step)
	}
}

func TestSnapshotRestores(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.at(5*sec).send(c, "FFFFF")
	r2 := newRig(t, nil)
	d, _ := r2.group.Restore("a", c.Snapshot(), 20*sec, nil)
	if got, want := d.Status(), c.Status(); got != want {
		t.Fatalf("restored %+v, want %+v", got, want)
	}
	r2.at(35 * sec).wantEvents("35 open>half-open deadline")
	r3 := newRig(t, nil)
	e, _ := r3.group.Restore("a", d.Snapshot(), 40*sec, nil)
	if e.State() != StateHalfOpen || e.Generation() != d.Generation()+1 {
		t.Fatalf("%+v", e.Status())
	}
	r3.at(41*sec).send(e, "SSS")
	r3.wantState(e, StateClosed)
}

func TestPendingAgeOfAYoungerRequestIsNotReachedTwice(t *testing.T) {
	r := newRig(t, func(s *Settings) {
		s.Trip = Trip{Kind: TripPendingAge, Over: 2 * time.Second}
		s.Ejection.MinHealthy = 1
	})
	c := r.circuit("a")
	c.SetOldestPending(1*sec, true)
	r.at(5 * sec).wantEvents("3 closed>open pendingAge overflow")
	c.SetOldestPending(2*sec, true) // has been waiting for 3 s, while the older one was
	r.at(6 * sec).wantEvents()
	c.SetOldestPending(5*sec, true)
	r.at(9 * sec).wantEvents("7 closed>open pendingAge overflow")
}
