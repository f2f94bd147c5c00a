package agent

import (
	"maps"

	"github.com/cbagent/cbagent/internal/loader"
)

// release lets go of the connections of a circuit that is no longer used.
func (a *Agent) release(circuit int, now int64) {
	a.circuitPlaces.Release(circuit, now)
	maps.DeleteFunc(a.inherited.circuits, func(_ loader.Backend, id int) bool { return id == circuit })
	maps.DeleteFunc(a.inherited.shared, func(_ uint64, id int) bool { return id == circuit })
	a.saver.Changed()
}

// reusePlaces frees places in the kernel's tables that nothing refers to any more.
func (a *Agent) reusePlaces(now int64) {
	freed, err := a.circuitPlaces.Reuse(now)
	if err != nil {
		a.log.Error("cannot remove the counts of circuits that are gone", "error", err)
	}
	if freed {
		a.placeMore(now)
	}
	if err := a.policyPlaces.Reuse(now); err != nil {
		a.log.Error("cannot remove the exempt clients of a policy that is gone", "error", err)
	}
}

// placeMore gives circuits to backends for which there was no room.
func (a *Agent) placeMore(now int64) {
	for b := range a.unplaced {
		is, owned := a.assigners[b.Direction].Owner(b.Addr)
		p := a.policies[is.Policy]
		if !owned || p == nil {
			delete(a.unplaced, b)
			continue
		}
		a.addBackend(p, b.Direction, is.Backend, now)
		if a.unplaced[b] {
			return // no more
		}
	}
	if a.crowded {
		a.crowded = false
		a.log.Info("there is room for all circuits again")
	}
}
