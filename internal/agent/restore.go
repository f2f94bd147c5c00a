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
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/statedir"
)

// What an agent leaves to the next one is in the kernel: which backend has which circuit, and what its verdict is. The
// state file adds what the programs need not know, such as who forced a circuit open. Where they differ the kernel is
// right: it was told first.

// forgetAfter is how long backends of a former agent are kept when discovery does not say whether they are still there.
const forgetAfter = time.Minute

type circuitName struct{ policy, backend string }

// inheritance is what a former agent left and nobody has claimed yet.
type inheritance struct {
	circuits  map[loader.Backend]int
	shared    map[uint64]int // by owner: a policy's one circuit may be another backend's, too
	snapshots map[circuitName]breaker.Snapshot
	since     int64
}

// inherit reads what a former agent left, and keeps its places in the tables from being used for anything else.
func (a *Agent) inherit() {
	now := a.clock()
	a.inherited = inheritance{circuits: map[loader.Backend]int{}, shared: map[uint64]int{}, snapshots: map[circuitName]breaker.Snapshot{}, since: now}
	if !a.dp.Adopted() {
		// A state file without its kernel's state is of another life: generations begin anew.
		if err := a.saver.Remove(); err != nil {
			a.log.Warn("cannot remove the state file of a former agent", "error", err)
		}
		return
	}
	circuits := map[int]bool{}
	for _, b := range a.dp.AdoptedBackends() {
		a.inherited.circuits[b.Backend] = b.Circuit
		a.inherited.shared[a.dp.Owner(b.Circuit)] = b.Circuit
		circuits[b.Circuit] = true
	}
	policies, answers := a.dp.UsedTables()
	if a.circuitPlaces.Adopt(circuits, now) > 0 {
		a.saver.Changed()
	}
	a.policyPlaces.Adopt(policies, now)
	a.answers.Adopt(answers, now)
	saved, err := a.saver.Load()
	if err != nil {
		a.log.Warn("cannot read the state file: overrides by hand and backoff steps may be lost", "error", err)
	}
	maps.Copy(a.standing, saved.Standing)
	for _, c := range saved.Circuits {
		a.inherited.snapshots[circuitName{c.Policy, c.Backend}] = c.Snapshot
	}
	a.log.Info("took over from a former agent", "backends", len(a.inherited.circuits))
}

func ownerOf(p *policyState) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d", p.Name, p.Breaker.Scope, p.Protocol)
	return h.Sum64()
}

// adoptPlace gives a backend the place in the table that it had under a former agent. False: it had none, or under another
// policy.
func (a *Agent) adoptPlace(c *circuitState, b loader.Backend) bool {
	id, ok := a.inherited.circuits[b]
	if c.policy.Breaker.Scope == breaker.ScopePolicy {
		id, ok = a.inherited.shared[ownerOf(c.policy)]
	}
	if !ok || a.dp.Owner(id) != ownerOf(c.policy) {
		return false
	}
	c.id = id
	return true
}

// adopt goes on from the circuit's state under a former agent.
func (a *Agent) adopt(c *circuitState, backend string, now int64) {
	saved, known := a.inherited.snapshots[circuitName{c.policy.Name, c.name}]
	s := c.circuit.Adopt(backend, saved, known, breaker.Time(now))
	if s.Overridden && s.Override.Why == ledger.UnknownReason {
		a.log.Warn("an operator's mode stays, by whom and why is not known: the state file was not saved", "policy", c.policy.Name,
			"backend", c.name, "mode", s.Override.Mode.String())
	}
}

// adoptLearned takes over the backends that a former agent had learned from traffic.
func (a *Agent) adoptLearned(now int64) {
	if len(a.inherited.circuits) == 0 {
		return
	}
	for _, b := range a.dp.AdoptedBackends() {
		if _, owned := a.assigners[b.Direction].Owner(b.Addr); !owned {
			a.learn(b.Addr, b.Direction, now)
		}
	}
}

// forgetInherited lets go of what a former agent left, once discovery has told of all that is still there.
func (a *Agent) forgetInherited(now int64) {
	if len(a.inherited.circuits) == 0 {
		return
	}
	if now < a.inherited.since+int64(forgetAfter) {
		for _, p := range a.policies {
			if !p.complete {
				return
			}
		}
	}
	left := a.dp.AdoptedBackends()
	used := map[int]bool{}
	for _, c := range a.circuits {
		if c != nil {
			used[c.id] = true
		}
	}
	for _, b := range left {
		if err := a.dp.RemoveBackend(b.Backend); err != nil {
			a.log.Error("backend of a former agent", "backend", b.Addr, "error", err)
		}
	}
	for _, id := range slices.Collect(maps.Values(a.inherited.circuits)) {
		if !used[id] {
			used[id] = true
			a.release(id, now)
		}
	}
	if len(left) > 0 {
		a.log.Info("backends of a former agent are not in the policies any more", "backends", len(left))
	}
	a.inherited.circuits, a.inherited.shared = nil, nil
}

// statePath is where the state file is; empty without pins, since it says nothing without the kernel's state.
func (c *Config) statePath() string {
	if c.StateDir == "" || c.Datapath.PinPath == "" {
		return ""
	}
	return filepath.Join(c.StateDir, "state.json")
}

// stateToSave is what the next agent may need. Circuits that are as new are left out.
func (a *Agent) stateToSave() *statedir.State {
	s := &statedir.State{Standing: maps.Clone(a.standing)}
	for _, c := range a.circuits {
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
