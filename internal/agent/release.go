package agent

import (
	"maps"
	"time"

	"github.com/cbagent/cbagent/internal/loader"
)

// rest is how long a place in the kernel's tables rests before it means something else: programs that read it while it is
// given back are done in microseconds.
const rest = int64(time.Second)

// release lets go of the connections of a circuit that is no longer used. Its place means something else only when none
// is left that names it: that one would be judged by another's rule, and counted off another's connections.
func (a *Agent) release(circuit int, now int64) {
	a.dp.Release(circuit)
	maps.DeleteFunc(a.inherited.circuits, func(_ loader.Backend, id int) bool { return id == circuit })
	maps.DeleteFunc(a.inherited.shared, func(_ uint64, id int) bool { return id == circuit })
	a.released = append(a.released, slot{circuit, now + rest})
	a.saver.Changed()
}

// reuseReleased gives back the places of circuits whose connections are gone. The sweep sees to that.
func (a *Agent) reuseReleased(now int64) {
	if len(a.released) == 0 {
		return
	}
	done := map[int]bool{}
	kept := a.released[:0]
	for _, s := range a.released {
		if now >= s.from && a.dp.Connections(s.id) == 0 {
			done[s.id] = true
		} else {
			kept = append(kept, s)
		}
	}
	a.released = kept
	if len(done) == 0 {
		return
	}
	if err := a.dp.ForgetStatuses(done); err != nil {
		a.log.Error("counts of circuits that are gone", "error", err)
	}
	for id := range done {
		a.free.give(id, now)
	}
	a.placeMore(now)
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

// unclaimed returns circuits that are not among those used, but have connections: an agent was killed before it had
// released them.
func unclaimed(dp *loader.Datapath, used map[int]bool, table int) map[int]bool {
	found := map[int]bool{}
	for id := range table {
		if !used[id] && dp.Connections(id) > 0 {
			found[id] = true
		}
	}
	return found
}
