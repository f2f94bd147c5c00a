package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/records"
)

// happened returns the function that makes a policy's events known when their verdicts are in force: to the history and to
// those who log and notify, for whom it does not wait.
func (f *inForce) happened(p *policyState) func([]breaker.Event) {
	return func(events []breaker.Event) {
		for i := range events {
			e := &events[i]
			if e.Kind != breaker.EventOverflow {
				f.saver.Changed()
			}
			var known *records.Circuit
			if c := p.circuits[e.Backend]; c != nil {
				c.hold(f.clock())
				known = f.recorded(c)
			}
			f.records.Event(p.Name, p.Direction.String(), e, known)
		}
	}
}

// recorded returns what a record says of a circuit.
func (f *inForce) recorded(c *circuitState) *records.Circuit {
	return &records.Circuit{Trail: &c.trail, Backends: c.backendList, Counts: func() records.Counts {
		t := f.dp.Totals(c.id)
		return records.Counts{Connections: t.Connections, InFlight: t.InFlight, Rejected: t.RejectedTotal()}
	}}
}

// hold keeps backends that were learned from traffic from being forgotten while their circuit is not closed.
func (c *circuitState) hold(now int64) {
	if c.policy.learned == nil {
		return
	}
	for addr := range c.backends {
		c.policy.learned.Hold(addr, c.circuit.State() != breaker.StateClosed, time.Duration(now))
	}
}

// touch notes which of the backends that were learned from traffic have had some.
func (p *policyState) touch() {
	for _, c := range p.circuits {
		at := c.circuit.LastOutcome()
		if at == c.touched {
			continue
		}
		c.touched = at
		for addr := range c.backends {
			p.learned.Touch(addr, time.Duration(at))
		}
	}
}
