package breaker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestEjectionNeverPassesItsLimits plays any order of outcomes, waits, arrivals, departures and reloads. What counts is
// counted from the circuits' states here, not taken from the group.
func TestEjectionNeverPassesItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSettings()
		s.Trip = consecutive(2)
		s.Open.Duration, s.HalfOpen.Timeout = 5*time.Second, 5*time.Second
		limits := func(t *rapid.T) Ejection {
			return Ejection{
				MaxPercent: rapid.SampledFrom([]float64{0, 10, 33.3, 50, 67, 100}).Draw(t, "maxPercent"),
				MinHealthy: rapid.IntRange(0, 3).Draw(t, "minHealthy"),
			}
		}
		s.Ejection = limits(t)
		g, err := NewGroup("p", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		now, events := Time(0), []Event(nil)
		openedAt := map[string]int{} // order of ejections by outcome
		order := 0
		backend := func(t *rapid.T) string { return fmt.Sprint("b", rapid.IntRange(0, 11).Draw(t, "backend")) }
		ejected := func() (n int) {
			for _, c := range g.Circuits() {
				switch c.State() {
				case StateOpen, StateHalfOpen, StateForcedOpen:
					n++
				}
			}
			return n
		}
		fits := func(n int) bool {
			return n == 0 || 100*float64(n)/float64(g.Known()) <= s.Ejection.MaxPercent && g.Known()-n >= s.Ejection.MinHealthy
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { g.Add(backend(t), now) },
			"remove": func(t *rapid.T) {
				b := backend(t)
				delete(openedAt, b)
				events = g.Remove(b, now, events)
			},
			"record": func(t *rapid.T) {
				c := g.Add(backend(t), now)
				before := ejected()
				o := Outcome{Result: rapid.SampledFrom([]Result{200, 500, 500}).Draw(t, "result"), Generation: c.Generation()}
				if c.State() == StateHalfOpen {
					a, _ := c.Allow(now, nil)
					o.Permit, o.Began = a.Permit, now
				}
				state, streak := c.State(), c.streak
				_, events = c.Record(now, &o, events)
				if state == StateClosed && o.Result == 500 && streak >= 1 {
					if want := fits(before + 1); (c.State() == StateOpen) != want {
						t.Fatalf("%d of %d ejected, %+v: opened is %v", before, g.Known(), s.Ejection, !want)
					}
				}
			},
			"wait": func(t *rapid.T) {
				now += Time(rapid.Int64Range(0, int64(8*time.Second)).Draw(t, "wait"))
				events = g.Advance(now, events)
			},
			"reload": func(t *rapid.T) {
				s.Ejection = limits(t)
				if events, err = g.Update(s, now, events); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				closedByLimit := 0
				for _, e := range events {
					switch {
					case e.Kind == EventTransition && e.From == StateClosed && e.To == StateOpen:
						order++
						openedAt[e.Backend] = order
					case e.Reason == ReasonEjectionLimit:
						closedByLimit++
						newest := openedAt[e.Backend]
						delete(openedAt, e.Backend)
						for b, at := range openedAt {
							if c := g.Circuit(b); at > newest && c != nil && c.State() != StateClosed {
								t.Fatalf("%s was closed, but %s was ejected later", e.Backend, b)
							}
						}
					case e.To == StateClosed:
						delete(openedAt, e.Backend)
					}
				}
				events = events[:0]
				n := ejected()
				if n != g.Ejected() {
					t.Fatalf("%d ejected, the group says %d", n, g.Ejected())
				}
				if !fits(n) {
					t.Fatalf("%d of %d ejected with %+v", n, g.Known(), s.Ejection)
				}
				if closedByLimit > 0 && fits(n+1) {
					t.Fatalf("closed %d, leaving %d of %d: one less was enough", closedByLimit, n, g.Known())
				}
			},
		})
	})
}

func TestOverflowKeepsTheWindowAndTriesAgain(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ejection.MaxPercent = 50; s.Trip = all(minCalls(5), failureRate(0.5)) })
	a := r.circuit("a")
	r.send(a, "FFFFFF")
	r.wantEvents("0 closed>open failureRate overflow", "0 closed>open failureRate overflow")
	if m, s := a.Metric(0), a.Status(); m.Total != 6 || s.Overflows != 2 || s.Generation != 0 {
		t.Fatalf("%+v %+v", m, s)
	}
	r.circuit("b")
	r.send(a, "S")
	r.wantEvents("0 closed>open failureRate")
	if s := a.Status(); s.Step != 1 || s.Openings != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestReopeningNeedsNoLeaveAndForcedOpenIgnoresLimits(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ejection.MaxPercent = 50 })
	a, b := r.circuit("a"), r.circuit("b")
	r.send(a, "FFFFF")
	r.events = b.Impose(1*sec, Override{Mode: ModeForcedOpen, Until: Never}, r.events)
	r.at(30*sec).send(a, "F")
	r.wantEvents("0 closed>open consecutiveFailures", "1 closed>forced-open manual", "30 open>half-open deadline",
		"30 half-open>open probeFailed")
	r.events = r.group.Remove("nobody", 31*sec, r.events)
	r.wantEvents()
}

func TestForcedOpenCountsButIsNotTakenBack(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Ejection.MinHealthy = 2 })
	a, b := r.circuit("a"), r.circuit("b")
	r.circuit("c")
	r.circuit("d")
	r.events = a.Impose(0, Override{Mode: ModeForcedOpen, Until: Never}, r.events)
	r.send(b, "FFFFF")
	r.wantEvents("0 closed>forced-open manual", "0 closed>open consecutiveFailures")
	r.events = r.group.Remove("c", 1*sec, r.events)
	r.wantEvents("1 open>closed ejectionLimit")
	r.events = r.group.Remove("d", 2*sec, r.events)
	r.wantEvents()
	r.wantState(a, StateForcedOpen)
}

func TestScopePolicySharesOneCircuit(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Scope = ScopePolicy; s.Ejection.MinHealthy = 1 })
	a, b := r.circuit("a"), r.circuit("b")
	if a != b || a.Backend() != SharedBackend || r.group.Known() != 2 {
		t.Fatalf("%s and %s, %d known", a.Backend(), b.Backend(), r.group.Known())
	}
	r.send(a, "FFFFF")
	r.wantEvents("0 closed>open consecutiveFailures") // limits are for scope: backend
	r.group.Remove("a", 0, nil)
	if r.group.Circuit("b") != b || len(r.group.Circuits()) != 1 {
		t.Fatal("the circuit went with the first backend")
	}
	r.group.Remove("b", 0, nil)
	if len(r.group.Circuits()) != 0 || r.group.NextDeadline() != Never || r.group.Ejected() != 0 {
		t.Fatal("the circuit did not go with the last backend")
	}
}

func TestUpdate(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.circuit("a"), r.circuit("b")
	r.send(a, "FFFFF")
	r.send(b, "FFFF")
	s := r.group.Settings()
	s.Trip = consecutive(9)
	s.Open.Duration = time.Minute
	var err error
	if r.events, err = r.group.Update(s, 1*sec, r.events); err != nil {
		t.Fatal(err)
	}
	r.now = 1 * sec
	r.send(b, "FFFFF")
	r.at(30 * sec)
	r.wantEvents("0 closed>open consecutiveFailures", "1 closed>open consecutiveFailures", "30 open>half-open deadline")
	if until := b.Status().Until; until != 61*sec {
		t.Fatalf("until %v", until)
	}

	s.Mode = ModeDisabled
	r.events, _ = r.group.Update(s, 31*sec, r.events)
	r.wantEvents("31 half-open>disabled reload", "31 open>disabled reload")
	if c := r.circuit("c"); c.State() != StateDisabled {
		t.Fatalf("a new circuit is %v", c.State())
	}
	s.Mode = ModeEnforce
	r.events, _ = r.group.Update(s, 32*sec, r.events)
	r.wantEvents("32 disabled>closed reload", "32 disabled>closed reload", "32 disabled>closed reload")

	r.at(33*sec).send(a, "FFF")
	s.Window = Window{Type: WindowCount, Count: 10}
	r.events, _ = r.group.Update(s, 34*sec, r.events)
	if m := a.Metric(34 * sec); m.Total != 0 {
		t.Fatalf("a window of another kind was kept: %+v", m)
	}
	r.at(34*sec).send(a, "FFFFFFFF")
	r.wantState(a, StateClosed)

	s.Scope = ScopePolicy
	if _, err := r.group.Update(s, 35*sec, nil); !errors.Is(err, ErrScope) {
		t.Fatalf("another scope: %v", err)
	}
	s.Scope, s.Open.Duration = ScopeBackend, 0
	if _, err := r.group.Update(s, 35*sec, nil); err == nil || r.group.Settings().Open.Duration != time.Minute {
		t.Fatalf("impossible settings: %v", err)
	}
}

func TestUpdateDuringHalfOpen(t *testing.T) {
	for _, test := range []struct {
		name   string
		probes string
		change HalfOpen
		want   []string
		state  State
	}{
		{"fewer calls", "S", HalfOpen{Calls: 1, Concurrent: 1, Timeout: time.Second}, []string{"31 half-open>closed reload"}, StateClosed},
		{"less tolerant", "F", HalfOpen{Calls: 3, Concurrent: 3, Timeout: time.Second}, []string{"31 half-open>open reload"}, StateOpen},
		{"no probes", "S", HalfOpen{}, []string{"31 half-open>closed reload"}, StateClosed},
		{"more calls", "S", HalfOpen{Calls: 9, Concurrent: 1, Timeout: time.Second}, nil, StateHalfOpen},
		{"a ramp", "S", HalfOpen{Ramp: &Ramp{From: 0.5, To: 1, Over: 10 * time.Second}}, []string{"41 half-open>closed rampPassed"}, StateClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, func(s *Settings) { s.HalfOpen.Tolerate = 1 })
			c := r.circuit("a")
			r.send(c, "FFFFF")
			r.at(30*sec).send(c, test.probes)
			r.events = r.events[:0]
			s := r.group.Settings()
			s.HalfOpen = test.change
			r.events, _ = r.group.Update(s, 31*sec, r.events)
			r.at(50 * sec).wantEvents(test.want...)
			r.wantState(c, test.state)
		})
	}
}
