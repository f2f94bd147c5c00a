package agent

import (
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/statedir"
	"github.com/cbagent/cbagent/internal/tables"
)

// An agent takes over the state of the former one. The kernel holds the circuit of each backend and its verdict. The state
// file holds what the programs do not need, such as who forced a circuit open. Where the two differ the kernel is right: it
// is written first.

// forgetAfter is how long backends of a former agent are kept when discovery does not report whether they still exist.
const forgetAfter = time.Minute

type circuitName struct{ policy, backend string }

// inheritance is the state of a former agent that no policy has taken over yet.
type inheritance struct {
	circuits  map[tables.Backend]int
	shared    map[uint64]int // by owner: several backends may share a policy's circuit
	snapshots map[circuitName]breaker.Snapshot
	since     int64
}

// inherit reads the state of a former agent, and reserves its places in the tables.
func (f *inForce) inherit() {
	now := f.clock()
	f.inherited = inheritance{circuits: map[tables.Backend]int{}, shared: map[uint64]int{}, snapshots: map[circuitName]breaker.Snapshot{}, since: now}
	if !f.dp.Adopted() {
		// Without the state in the kernel the state file is obsolete: generations begin at 0 again.
		if err := f.saver.Remove(); err != nil {
			f.log.Warn("cannot remove the state file of a former agent", "error", err)
		}
		return
	}
	circuits := map[int]bool{}
	for _, b := range f.dp.AdoptedBackends() {
		f.inherited.circuits[b.Backend] = b.Circuit
		f.inherited.shared[f.dp.Owner(b.Circuit)] = b.Circuit
		circuits[b.Circuit] = true
	}
	policies, answers := f.dp.UsedTables()
	if f.circuitPlaces.Adopt(circuits, now) > 0 {
		f.saver.Changed()
	}
	f.policyPlaces.Adopt(policies, now)
	f.answers.Adopt(answers, now)
	saved, err := f.saver.Load()
	if err != nil {
		f.log.Warn("cannot read the state file: overrides by hand and backoff steps may be lost", "error", err)
	}
	maps.Copy(f.standing, saved.Standing)
	for _, c := range saved.Circuits {
		f.inherited.snapshots[circuitName{c.Policy, c.Backend}] = c.Snapshot
	}
	f.log.Info("took over from a former agent", "backends", len(f.inherited.circuits))
}

func ownerOf(p *policyState) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d", p.Name, p.Breaker.Scope, p.Protocol)
	return h.Sum64()
}

// adoptPlace gives a backend the place in the table that it had under a former agent. It returns false if the backend had
// none, or belonged to another policy.
func (f *inForce) adoptPlace(c *circuitState, b tables.Backend) bool {
	id, ok := f.inherited.circuits[b]
	if c.policy.Breaker.Scope == breaker.ScopePolicy {
		id, ok = f.inherited.shared[ownerOf(c.policy)]
	}
	if !ok || f.dp.Owner(id) != ownerOf(c.policy) {
		return false
	}
	c.id = id
	return true
}

// adopt restores the circuit's state under a former agent.
func (f *inForce) adopt(c *circuitState, backend string, now int64) {
	saved, known := f.inherited.snapshots[circuitName{c.policy.Name, c.name}]
	s := c.circuit.Adopt(backend, saved, known, breaker.Time(now))
	if s.Overridden && s.Override.Why == ledger.UnknownReason {
		f.log.Warn("an operator's mode stays, by whom and why is not known: the state file was not saved", "policy", c.policy.Name,
			"backend", c.name, "mode", s.Override.Mode.String())
	}
}

// adoptLearned takes over the backends that a former agent had learned from traffic.
func (f *inForce) adoptLearned(now int64) {
	if len(f.inherited.circuits) == 0 {
		return
	}
	for _, b := range f.dp.AdoptedBackends() {
		if _, owned := f.assigners[b.Direction].Owner(b.Addr); !owned {
			f.learn(b.Addr, b.Direction, now)
		}
	}
}

// forgetInherited removes the backends of a former agent that no policy took over, once discovery has reported all
// backends.
func (f *inForce) forgetInherited(now int64) {
	if len(f.inherited.circuits) == 0 {
		return
	}
	if now < f.inherited.since+int64(forgetAfter) {
		for _, p := range f.policies {
			if !p.complete {
				return
			}
		}
	}
	left := f.dp.AdoptedBackends()
	used := map[int]bool{}
	for _, c := range f.circuits {
		if c != nil {
			used[c.id] = true
		}
	}
	for _, b := range left {
		if err := f.dp.RemoveBackend(b.Backend); err != nil {
			f.log.Error("cannot remove the backend of a former agent from the map", "backend", b.Addr, "error", err)
		}
	}
	for _, id := range slices.Collect(maps.Values(f.inherited.circuits)) {
		if !used[id] {
			used[id] = true
			f.release(id, now)
		}
	}
	if len(left) > 0 {
		f.log.Info("backends of a former agent are not in the policies any more", "backends", len(left))
	}
	f.inherited.circuits, f.inherited.shared = nil, nil
}

// statePath is the path of the state file; empty without pins, because the file is of no use without the state in the
// kernel.
func (c *Config) statePath() string {
	if c.StateDir == "" || c.Datapath.PinPath == "" {
		return ""
	}
	return filepath.Join(c.StateDir, "state.json")
}

// stateToSave returns the state for the next agent. It omits circuits that are as new.
func (f *inForce) stateToSave() *statedir.State {
	s := &statedir.State{Standing: maps.Clone(f.standing)}
	for _, c := range f.circuits {
		if c == nil {
			continue
		}
		snap := c.circuit.Snapshot()
		if snap.State == breaker.StateClosed && snap.Generation == 0 && !snap.Overridden {
			continue
		}
		s.Circuits = append(s.Circuits, statedir.Circuit{Policy: c.policy.Name, Backend: c.name, Snapshot: snap})
	}
	return s
}
