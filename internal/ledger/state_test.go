package ledger

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// An opening ends at its deadline, in the kernel and in the circuit.
func TestGenerationAtTheDeadline(t *testing.T) {
	open := breaker.Status{State: breaker.StateOpen, Generation: 3, Until: 100}
	half := breaker.Status{State: breaker.StateHalfOpen, Generation: 4, Until: breaker.Never}
	v := verdictOf(&open, &breaker.HalfOpen{})
	for at, want := range map[int64]uint32{99: 3, 100: 4, 101: 4} {
		if got := effectiveGeneration(&open, breaker.Time(at)); got != want {
			t.Errorf("at %d the circuit is in generation %d, want %d", at, got, want)
		}
		if got := v.judging(at); got != want {
			t.Errorf("at %d the programs judge in generation %d, want %d", at, got, want)
		}
	}
	if got := effectiveGeneration(&half, 1000); got != 4 {
		t.Errorf("half-open is generation %d, want 4", got)
	}
}

func TestVerdictOfState(t *testing.T) {
	probing := breaker.HalfOpen{Calls: 5, Concurrent: 2}
	ramp := breaker.HalfOpen{Ramp: &breaker.Ramp{From: 0.1, To: 0.9, Over: time.Minute}}
	for name, c := range map[string]struct {
		status breaker.Status
		half   breaker.HalfOpen
		want   Verdict
	}{
		"closed":        {breaker.Status{State: breaker.StateClosed, Step: 3, Until: breaker.Never}, probing, Verdict{Kind: Closed, Generation: 1, Step: 3}},
		"a step of all": {breaker.Status{State: breaker.StateClosed, Step: 1 << 20}, probing, Verdict{Kind: Closed, Generation: 1, Step: 65535}},
		"monitor": {breaker.Status{State: breaker.StateClosed, Mode: breaker.ModeMonitor}, probing,
			Verdict{Kind: Closed, Generation: 1, Monitor: true}},
		"open": {breaker.Status{State: breaker.StateOpen, Generation: 1, Until: 500}, probing,
			Verdict{Kind: Open, Generation: 2, Until: 500, Calls: 5, Concurrent: 2}},
		"half-open": {breaker.Status{State: breaker.StateHalfOpen, Generation: 2, Since: 500, Until: breaker.Never}, probing,
			Verdict{Kind: Open, Generation: 2, Until: 500, Calls: 5, Concurrent: 2}},
		"half-open with a ramp": {breaker.Status{State: breaker.StateHalfOpen, Generation: 2, Since: 500, Until: 900}, ramp,
			Verdict{Kind: Open, Generation: 2, Until: 500, RampOver: time.Minute, RampFrom: 0.1, RampTo: 0.9}},
		"forced open": {breaker.Status{State: breaker.StateForcedOpen, Generation: 7, Overridden: true, Until: 900}, probing,
			Verdict{Kind: ForcedOpen, Generation: 8, Override: true, Until: 900}},
		"disabled by the policy": {breaker.Status{State: breaker.StateDisabled, Until: breaker.Never}, probing,
			Verdict{Kind: Disabled, Generation: 1}},
	} {
		if got := verdictOf(&c.status, &c.half); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
