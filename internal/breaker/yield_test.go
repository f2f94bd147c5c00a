package breaker

import (
	"testing"
	"time"
)

// halfOpenRig has circuits a and b, of which the limits allow one to be ejected. a has become half-open just now.
func halfOpenRig(t *testing.T, change func(*Settings)) (r *rig, a, b *Circuit) {
	t.Helper()
	r = newRig(t, func(s *Settings) {
		s.Ejection.MaxPercent = 50
		s.HalfOpen.Timeout = 10 * time.Second
		if change != nil {
			change(s)
		}
	})
	a, b = r.circuit("a"), r.circuit("b")
	r.send(a, "FFFFF")
	r.at(a.Status().Until).wantState(a, StateHalfOpen)
	r.events = r.events[:0]
	return r, a, b
}

func (r *rig) wantEjected(want int) {
	r.Helper()
	if got := r.group.Ejected(); got != want {
		r.Fatalf("at %v: %d ejected, want %d", time.Duration(r.now), got, want)
	}
}

// ask takes a permit.
func (r *rig) ask(c *Circuit) Admission {
	r.Helper()
	var a Admission
	if a, r.events = c.Allow(r.now, r.events); !a.Permit {
		r.Fatalf("at %v: no permit: %+v", time.Duration(r.now), a)
	}
	return a
}

func TestIdleHalfOpenGivesItsPlaceUp(t *testing.T) {
	for _, test := range []struct {
		name     string
		duration time.Duration
		want     Time
	}{
		{"after 30 s", 10 * time.Second, 40 * sec},
		{"after open.duration, where that is longer", 45 * time.Second, 90 * sec},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, a, b := halfOpenRig(t, func(s *Settings) { s.Open.Duration = test.duration })
			if next := r.group.NextDeadline(); next != test.want {
				t.Fatalf("the next deadline is %v, want %v", time.Duration(next), time.Duration(test.want))
			}
			r.at(test.want-1).send(b, "FFFFF")
			r.wantState(b, StateClosed)
			r.wantEjected(1)
			r.at(test.want).wantEjected(0)
			r.wantState(a, StateHalfOpen)
			if !a.Status().Yielded || r.group.NextDeadline() != Never {
				t.Fatalf("%+v, next deadline %v", a.Status(), r.group.NextDeadline())
			}
			r.send(b, "F")
			r.wantState(b, StateOpen)
			r.wantEjected(1)
		})
	}
}

func TestProbesKeepThePlace(t *testing.T) {
	r, a, _ := halfOpenRig(t, func(s *Settings) { s.HalfOpen = HalfOpen{Calls: 9, Concurrent: 9, Timeout: time.Minute} })
	r.at(50*sec).send(a, "S")
	r.at(79 * sec).wantEjected(1)
	r.send(a, "A") // an ignored one was admitted, too
	r.at(109*sec - 1).wantEjected(1)
	r.at(109 * sec).wantEjected(0)
	if a.Status().Probes.Finished != 1 {
		t.Fatalf("%+v", a.Status().Probes)
	}
}

func TestReopeningAfterThePlaceIsGivenUp(t *testing.T) {
	for _, test := range []struct {
		name string
		play func(r *rig, a, b *Circuit)
		want []string
	}{
		{"no other is ejected", func(r *rig, a, b *Circuit) { r.send(a, "F") },
			[]string{"61 half-open>open probeFailed"}},
		{"another one is", func(r *rig, a, b *Circuit) { r.send(b, "FFFFF"); r.send(a, "F") },
			[]string{"61 closed>open consecutiveFailures", "61 half-open>closed ejectionLimit"}},
		{"another one is, and the probe times out", func(r *rig, a, b *Circuit) { r.send(b, "FFFFF"); r.ask(a); r.at(71 * sec) },
			[]string{"61 closed>open consecutiveFailures", "71 half-open>closed ejectionLimit"}},
		{"another one is, and the probe passes", func(r *rig, a, b *Circuit) { r.send(b, "FFFFF"); r.send(a, "SSS") },
			[]string{"61 closed>open consecutiveFailures", "61 half-open>closed probesPassed"}},
		{"another one was", func(r *rig, a, b *Circuit) {
			r.send(b, "FFFFF")
			r.ask(a)
			r.events = b.Close(r.now, "", "", r.events)
			r.at(71 * sec)
		}, []string{"61 closed>open consecutiveFailures", "61 open>closed manual", "71 half-open>open probeTimeout"}},
		{"a probe takes the place again", func(r *rig, a, b *Circuit) { r.ask(a); r.send(b, "FFFFF"); r.at(71 * sec) },
			[]string{"61 closed>open consecutiveFailures overflow", "71 half-open>open probeTimeout"}},
		{"an operator needs no leave", func(r *rig, a, b *Circuit) {
			r.send(b, "FFFFF")
			r.events = a.Impose(r.now, Override{Mode: ModeForcedOpen, Until: Never}, r.events)
		}, []string{"61 closed>open consecutiveFailures", "61 half-open>forced-open manual"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, a, b := halfOpenRig(t, nil)
			r.at(61 * sec)
			test.play(r, a, b)
			r.wantEvents(test.want...)
		})
	}
}

// The event says how many would be ejected, and how many may be.
func TestNoLeaveToReopen(t *testing.T) {
	r, a, b := halfOpenRig(t, nil)
	r.at(61*sec).send(b, "FFFFF")
	r.send(a, "F")
	e := r.events[len(r.events)-1]
	if e.Circuit != a || !e.HasNumbers || e.Value != 2 || e.Threshold != 1 || a.Status().Step != 1 {
		t.Fatalf("%+v", e)
	}
}

// What gave its place up is not among those that are closed when fewer backends are known, and what took it again is the
// newest.
func TestOrderOfAPlaceTakenAgain(t *testing.T) {
	r, a, b := halfOpenRig(t, func(s *Settings) { s.Ejection = Ejection{MaxPercent: 100, MinHealthy: 1} })
	r.circuit("c")
	r.at(61*sec).send(b, "FFFFF")
	r.events = r.group.Remove("c", r.now, r.events[:0])
	r.wantEvents() // one of two is ejected: a does not count
	r.circuit("c")
	r.ask(a)
	r.wantEjected(2)
	r.events = r.group.Remove("c", r.now, r.events)
	r.wantEvents("61 half-open>closed ejectionLimit")
	r.wantState(a, StateClosed)
	r.wantState(b, StateOpen)
}

func TestScopePolicyKeepsItsPlace(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Scope = ScopePolicy })
	a := r.circuit("a")
	r.send(a, "FFFFF")
	r.at(500*sec).wantState(a, StateHalfOpen)
	r.wantEjected(1)
	if r.group.NextDeadline() != Never {
		t.Fatal("it waits for something")
	}
}

// A ramp admits a share of all requests from its first moment on.
func TestReloadToARampTakesThePlaceAgain(t *testing.T) {
	for _, opened := range []bool{false, true} {
		r, a, b := halfOpenRig(t, nil)
		r.at(61 * sec)
		if opened {
			r.send(b, "FFFFF")
		}
		s := r.group.Settings()
		s.HalfOpen = HalfOpen{Ramp: &Ramp{From: 1, To: 1, Over: time.Minute}}
		r.events, _ = r.group.Update(s, r.now, r.events[:0])
		r.wantEjected(1)
		if a.Status().Yielded != opened {
			t.Fatalf("another is ejected: %v; %+v", opened, a.Status())
		}
		r.send(a, "FFFFF")
		if opened {
			r.wantEvents("61 half-open>closed ejectionLimit")
		} else {
			r.wantEvents("61 half-open>open consecutiveFailures")
		}
	}
}

func TestYieldedSurvivesARestart(t *testing.T) {
	r, a, b := halfOpenRig(t, nil)
	r.at(61*sec).send(b, "FFFFF")
	next := newRig(t, func(s *Settings) { *s = r.group.Settings() })
	next.now = 62 * sec
	var restored *Circuit
	restored, next.events = next.group.Restore("a", a.Snapshot(), next.now, next.events)
	_, next.events = next.group.Restore("b", b.Snapshot(), next.now, next.events)
	next.wantEjected(1)
	next.send(restored, "F")
	next.wantEvents("62 half-open>closed ejectionLimit")
}
