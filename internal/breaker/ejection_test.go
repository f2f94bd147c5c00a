package breaker

import (
	"errors"
	"testing"
	"time"
)

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
	r.events = r.group.Remove("absent", 31*sec, r.events)
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
