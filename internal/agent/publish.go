package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
)

// carryOut makes what has happened to a policy's circuits known: to the kernel first, then to the history and to those who
// log and notify, for whom it does not wait.
// The events are in a.events; callers hold mu.
func (a *Agent) carryOut(p *policyState) {
	for i := range a.events {
		e := &a.events[i]
		if e.Kind == breaker.EventOverflow {
			continue
		}
		if c := p.circuits[e.Backend]; c != nil {
			a.publish(c)
		}
	}
	for i := range a.events {
		a.tell(p, &a.events[i])
	}
	a.events = a.events[:0]
}

// publish puts the circuit's verdict in force, unless it is already.
func (a *Agent) publish(c *circuitState) {
	want, have := a.verdict(c), a.dp.Published(c.id)
	if want == have {
		return
	}
	a.dirty = true
	if a.dp.SetVerdict(c.id, want) {
		c.told = told{}
	}
	c.hold()
}

// hold keeps backends that were learned from traffic from being forgotten while their circuit is not closed.
func (c *circuitState) hold() {
	if c.policy.learned == nil {
		return
	}
	for addr := range c.backends {
		c.policy.learned.Hold(addr, c.circuit.State() != breaker.StateClosed, time.Duration(loader.Now()))
	}
}

// verdict says a circuit's state in the kernel's words.
func (a *Agent) verdict(c *circuitState) ledger.Verdict {
	s := c.circuit.Status()
	v := ledger.Verdict{
		Generation: toKernel(s.Generation), Monitor: s.Mode == breaker.ModeMonitor, Override: s.Overridden,
		Step: uint16(min(s.Step, 1<<16-1)),
	}
	half := c.policy.group.Settings().HalfOpen
	switch s.State {
	case breaker.StateClosed:
		v.Kind = ledger.Closed
	case breaker.StateDisabled, breaker.StateForcedOpen:
		v.Kind = ledger.Disabled
		if s.State == breaker.StateForcedOpen {
			v.Kind = ledger.ForcedOpen
		}
		if s.Until != breaker.Never {
			v.Until = int64(s.Until)
		}
	case breaker.StateOpen, breaker.StateHalfOpen:
		v.Kind = ledger.Open
		v.Until = int64(s.Until)
		if s.State == breaker.StateHalfOpen {
			// Of which the deadline has passed: the generation before it was the opening's.
			v.Generation--
			v.Until = int64(s.Since)
		}
		v.Calls, v.Concurrent = uint32(half.Calls), uint32(half.Concurrent)+c.told.vanished
		if r := half.Ramp; r != nil {
			v.RampOver, v.RampFrom, v.RampTo = r.Over, r.From, r.To
		}
	}
	return v
}
