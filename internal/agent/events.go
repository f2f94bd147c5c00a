package agent

import (
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// onEvent handles one event of the ring. The lock is held.
func (a *Agent) onEvent(ev *ledger.Event) {
	switch {
	case ev.Kind == ledger.EventSweep:
		select {
		case a.urgentSweep <- struct{}{}:
		default: // one is due already
		}
	case ev.Kind == ledger.EventLearn:
		dir := tables.Outbound
		if ev.Inbound {
			dir = tables.Inbound
		}
		a.learn(ev.Backend, dir, ev.At)
	case a.tracers.Count() > 0 && ev.Circuit < len(a.circuits) && a.circuits[ev.Circuit] != nil:
		c := a.circuits[ev.Circuit]
		a.tracers.Trace(c.policy.Name, c.name, ev)
	}
	a.book.Apply(ev)
}
