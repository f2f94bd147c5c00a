package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/records"
)

// happened returns the function that records a policy's events once their verdicts are in force. It does not wait for the
// log or for notifications.
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

// recorded returns the part of a record that describes a circuit.
func (f *inForce) recorded(c *circuitState) *records.Circuit {
	return &records.Circuit{Trail: &c.trail, Backends: c.backendList, Counts: func() records.Counts {
		t := f.dp.Totals(c.id)
		return records.Counts{Connections: t.Connections, InFlight: t.InFlight, Rejected: t.RejectedTotal()}
	}}
}

// hold keeps learned backends from being evicted or aged while their circuit is not closed.
func (c *circuitState) hold(now int64) {
	if c.policy.learned == nil {
		return
	}
	for addr := range c.backends {
		c.policy.learned.Hold(addr, c.circuit.State() != breaker.StateClosed, time.Duration(now))
	}
}

// touch notes which learned backends have had traffic.
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
