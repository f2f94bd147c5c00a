package agent

import (
	"maps"

	"github.com/cbagent/cbagent/internal/tables"
)

// release frees a circuit that is no longer used: the next sweep removes its connections.
func (f *inForce) release(circuit int, now int64) {
	f.circuitPlaces.Release(circuit, now)
	maps.DeleteFunc(f.inherited.circuits, func(_ tables.Backend, id int) bool { return id == circuit })
	maps.DeleteFunc(f.inherited.shared, func(_ uint64, id int) bool { return id == circuit })
	f.saver.Changed()
}

// reusePlaces frees places in the kernel's tables that nothing refers to any more.
func (f *inForce) reusePlaces(now int64) {
	freed, err := f.circuitPlaces.Reuse(now)
	if err != nil {
		f.log.Error("cannot remove the counts of circuits that are gone", "error", err)
	}
	if freed {
		f.placeMore(now)
	}
	if err := f.policyPlaces.Reuse(now); err != nil {
		f.log.Error("cannot remove the exempt clients of a policy that is gone", "error", err)
	}
}

// placeMore assigns circuits to backends for which there was no room before.
func (f *inForce) placeMore(now int64) {
	for b := range f.unplaced {
		is, owned := f.assigners[b.Direction].Owner(b.Addr)
		p := f.policies[is.Policy]
		if !owned || p == nil {
			delete(f.unplaced, b)
			continue
		}
		f.addBackend(p, b.Direction, is.Backend, now)
		if f.unplaced[b] {
			return // no more
		}
	}
	if f.crowded {
		f.crowded = false
		f.log.Info("there is room for all circuits again")
	}
}
