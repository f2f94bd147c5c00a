package breaker

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// input is what can happen to a circuit in the table below.
type input string

const (
	inGood     input = "good"    // a success with a permit if one is needed and free
	inBad      input = "bad"     // a failure, likewise
	inIgnored  input = "ignored" // an ignored one, likewise
	inStale    input = "stale"   // a failure sent in an earlier generation
	inNoPermit input = "no permit"
	inDeadline input = "deadline"
	inForce    input = "force open"
	inDisable  input = "disable"
	inAuto     input = "auto"
	inClose    input = "close"
)

// transitions is the state machine written out: two failures in a row trip, two probes close, one bad probe is tolerated.
// The key is the state, what has been counted in it, and the input; what is not there changes nothing.
// Counted are failures in a row in closed ("0", "1"), finished and bad probes in half-open ("00", "10", "11").
var transitions = map[string]struct {
	to     State
	count  string
	reason Reason // ReasonNone: no transition
}{
	"closed 0 bad":  {StateClosed, "1", ReasonNone},
	"closed 1 good": {StateClosed, "0", ReasonNone},
	"closed 1 bad":  {StateOpen, "", TripReason(TripConsecutiveFailures)},

	"open  deadline": {StateHalfOpen, "00", ReasonDeadline},
	"open  close":    {StateClosed, "0", ReasonManual},

	"half-open 00 good":  {StateHalfOpen, "10", ReasonNone},
	"half-open 00 bad":   {StateHalfOpen, "11", ReasonNone},
	"half-open 10 good":  {StateClosed, "0", ReasonProbesPassed},
	"half-open 10 bad":   {StateClosed, "0", ReasonProbesPassed},
	"half-open 11 good":  {StateClosed, "0", ReasonProbesPassed},
	"half-open 11 bad":   {StateOpen, "", ReasonProbeFailed},
	"half-open 00 close": {StateClosed, "0", ReasonManual},
	"half-open 10 close": {StateClosed, "0", ReasonManual},
	"half-open 11 close": {StateClosed, "0", ReasonManual},

	"closed 0 force open":     {StateForcedOpen, "", ReasonManual},
	"closed 1 force open":     {StateForcedOpen, "", ReasonManual},
	"open  force open":        {StateForcedOpen, "", ReasonManual},
	"half-open 00 force open": {StateForcedOpen, "", ReasonManual},
	"half-open 10 force open": {StateForcedOpen, "", ReasonManual},
	"half-open 11 force open": {StateForcedOpen, "", ReasonManual},
	"disabled  force open":    {StateForcedOpen, "", ReasonManual},

	"closed 0 disable":     {StateDisabled, "", ReasonManual},
	"closed 1 disable":     {StateDisabled, "", ReasonManual},
	"open  disable":        {StateDisabled, "", ReasonManual},
	"half-open 00 disable": {StateDisabled, "", ReasonManual},
	"half-open 10 disable": {StateDisabled, "", ReasonManual},
	"half-open 11 disable": {StateDisabled, "", ReasonManual},
	"forced-open  disable": {StateDisabled, "", ReasonManual},

	"forced-open  auto": {StateClosed, "0", ReasonManual},
	"disabled  auto":    {StateClosed, "0", ReasonManual},
}

// results are those that an input stands for.
var results = map[input][]Result{
	inGood:    {200, 404},
	inBad:     {500, ResultTimeout, ResultAbandoned, ResultUnreachable},
	inIgnored: {ResultAborted, ResultRaced},
}

func TestStatesAgainstTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSettings()
		s.Trip = consecutive(2)
		s.HalfOpen = HalfOpen{Calls: 2, Concurrent: 2, Tolerate: 1, Timeout: time.Minute}
		g, err := NewGroup("p", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := g.Add("a", 0)
		state, count, generation, now := StateClosed, "0", uint32(0), Time(0)
		inputs := []input{inGood, inBad, inIgnored, inStale, inNoPermit, inDeadline, inForce, inDisable, inAuto, inClose}
		for range rapid.IntRange(1, 60).Draw(t, "length") {
			in := rapid.SampledFrom(inputs).Draw(t, "input")
			now += ms
			var events []Event
			switch in {
			case inGood, inBad, inIgnored:
				a, _ := c.Allow(now, nil)
				o := Outcome{Result: rapid.SampledFrom(results[in]).Draw(t, "result"), Generation: a.Generation, Permit: a.Permit, Began: now}
				_, events = c.Record(now, &o, nil)
			case inStale:
				_, events = c.Record(now, &Outcome{Result: 500, Generation: c.Generation() - 1, Permit: true, Began: now}, nil)
			case inNoPermit:
				if state == StateClosed {
					continue // needs none
				}
				_, events = c.Record(now, &Outcome{Result: 500, Generation: c.Generation()}, nil)
			case inDeadline:
				if state == StateOpen {
					now = c.Status().Until
				}
				events = g.Advance(now, nil)
			case inForce:
				events = c.Impose(now, Override{Mode: ModeForcedOpen, Until: Never}, nil)
			case inDisable:
				events = c.Impose(now, Override{Mode: ModeDisabled, Until: Never}, nil)
			case inAuto:
				events = c.Auto(now, "", "", nil)
			case inClose:
				events = c.Close(now, "", "", nil)
			}
			want, known := transitions[fmt.Sprintf("%v %s %s", state, count, in)]
			if !known {
				want.to, want.count = state, count
			}
			reason := ReasonNone
			for _, e := range events {
				if e.Kind == EventTransition {
					if reason != ReasonNone || e.From != state || e.To != want.to || e.At != now {
						t.Fatalf("%v %s %s: %+v", state, count, in, events)
					}
					reason = e.Reason
					generation++
				}
			}
			if c.State() != want.to || reason != want.reason || c.Generation() != generation {
				t.Fatalf("%v %q %s: state %v, reason %v, generation %d; want %v, %v, %d", state, count, in, c.State(), reason,
					c.Generation(), want.to, want.reason, generation)
			}
			if reason != ReasonNone && c.Metric(now).Total != 0 {
				t.Fatalf("%v %s %s: the window was not cleared", state, count, in)
			}
			state, count = want.to, want.count
		}
	})
}

// TestPermitsNeverExceed asks for permits, answers, aborts and loses probes in any order.
func TestPermitsNeverExceed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSettings()
		calls := rapid.IntRange(1, 6).Draw(t, "calls")
		s.HalfOpen = HalfOpen{
			Calls: calls, Concurrent: rapid.IntRange(1, calls).Draw(t, "concurrent"), Tolerate: calls - 1, Timeout: 10 * time.Second,
		}
		g, err := NewGroup("p", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := g.Add("a", 0)
		for range 5 {
			c.Record(0, &Outcome{Result: 500}, nil)
		}
		now := 30 * sec
		g.Advance(now, nil)
		var open []Time // probes in flight, by admission
		used, finished := 0, 0
		period := c.Generation()
		begin := func() {
			if c.Generation() != period { // decided; have it open again
				for c.State() == StateClosed {
					c.Record(now, &Outcome{Result: 500, Generation: c.Generation()}, nil)
				}
				now = c.Status().Until
				g.Advance(now, nil)
				open, used, finished, period = nil, 0, 0, c.Generation()
			}
		}
		answer := func(t *rapid.T, r Result) {
			begin()
			if len(open) == 0 {
				return
			}
			i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
			o := Outcome{Result: r, Generation: period, Permit: true, Began: open[i]}
			open = append(open[:i:i], open[i+1:]...)
			c.Record(now, &o, nil)
			if r == ResultAborted {
				used--
			} else {
				finished++
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				begin()
				now++
				a, _ := c.Allow(now, nil)
				if want := used < s.HalfOpen.Calls && len(open) < s.HalfOpen.Concurrent; a.Admitted != want || a.Permit != want {
					t.Fatalf("%d used, %d in flight of %+v: %+v", used, len(open), s.HalfOpen, a)
				}
				if a.Permit {
					open = append(open, now)
					used++
				}
			},
			"succeed": func(t *rapid.T) { answer(t, 200) },
			"fail":    func(t *rapid.T) { answer(t, 503) },
			"abort":   func(t *rapid.T) { answer(t, ResultAborted) },
			"release": func(t *rapid.T) {
				begin()
				if len(open) > 0 {
					c.Release(now, period, open[0], nil)
					open = open[1:]
					used--
				}
			},
			"wait": func(t *rapid.T) {
				begin()
				now += Time(rapid.Int64Range(0, int64(6*time.Second)).Draw(t, "wait"))
				g.Advance(now, nil)
				for len(open) > 0 && now.Sub(open[0]) >= s.HalfOpen.Timeout {
					open = open[1:]
					finished++
				}
			},
			"": func(t *rapid.T) {
				if c.Generation() != period {
					return
				}
				got := c.Status().Probes
				if got.Used != used || got.InFlight != len(open) || got.Finished != finished || used > calls {
					t.Fatalf("%+v, want %d used, %d in flight, %d finished", got, used, len(open), finished)
				}
			},
		})
	})
}
