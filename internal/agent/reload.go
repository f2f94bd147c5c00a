package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
)

// apply puts a set in force, or returns an error and changes nothing. New tables are filled before a circuit refers to
// them. A circuit that rejects goes on rejecting meanwhile, unless its new policy admits.
func (f *inForce) apply(set *policy.Set) error {
	now := f.clock()
	diff := policy.Diff(f.set, set)
	compiled, err := f.compileAll(set, slices.Concat(diff.Added, diff.Changed), now)
	if err != nil {
		return err
	}
	for _, w := range set.Warnings {
		f.log.Warn("warning about the policies", "warning", w.Error())
	}
	f.set = set
	f.loaded = time.Now()
	var deltas [2][]discovery.Delta
	names := [2][]string{}
	for _, p := range set.Policies {
		names[p.Direction] = append(names[p.Direction], p.Name)
	}
	for dir := range names {
		deltas[dir] = append(deltas[dir], f.assigners[dir].SetPolicies(names[dir]))
	}
	for _, name := range slices.Concat(diff.Added, diff.Changed) {
		fresh := compiled[name]
		dir := fresh.Direction
		if old := f.policies[name]; old != nil {
			deltas[dir] = append(deltas[dir], f.replacePolicy(old, fresh, now)...)
		}
		f.policies[name] = fresh
		deltas[dir] = append(deltas[dir], f.claimAddresses(fresh, slices.Contains(diff.Added, name)))
	}
	for dir := range deltas {
		f.assign(tables.Direction(dir), now, deltas[dir]...)
	}
	for _, name := range diff.Removed {
		f.dropCompiled(f.policies[name], now)
		delete(f.policies, name)
	}
	if err := f.watchCIDRs(); err != nil {
		f.log.Error("cannot write the networks of policies to the map", "error", err)
	}
	f.adoptLearned(now)
	f.log.Info("policies in force", "policies", len(set.Policies), "added", len(diff.Added), "changed", len(diff.Changed),
		"removed", len(diff.Removed))
	return nil
}

// canUseXDP reports whether a policy rejects in a way that XDP can, for clients that enter by an uplink.
func (f *inForce) canUseXDP() bool {
	for _, p := range f.policies {
		if p.Direction == policy.Inbound && p.Reject.With != policy.Respond {
			return true
		}
	}
	return false
}

// compileAll compiles policies by name, all or none: whatever can fail is done before anything changes.
func (f *inForce) compileAll(set *policy.Set, names []string, now int64) (map[string]*policyState, error) {
	compiled := map[string]*policyState{}
	for _, name := range names {
		p, err := f.compile(set.Find(name), now)
		if err != nil {
			for _, done := range compiled {
				f.dropCompiled(done, now)
			}
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
		compiled[name] = p
	}
	return compiled, nil
}

// claimAddresses puts the backends that a policy names by address in force at once; discovery reports them a little later.
// If the policy is not new and has other sources, too, it does nothing: the backends of these would be removed.
func (f *inForce) claimAddresses(p *policyState, added bool) discovery.Delta {
	m := &p.Match
	if !added && len(m.Hosts)+len(m.Services) > 0 {
		return discovery.Delta{}
	}
	all := make([]discovery.Backend, len(m.Addresses))
	for i, at := range m.Addresses {
		all[i] = discovery.Backend{Addr: discovery.Normalize(at), Kind: discovery.KindAddress, Source: at.String()}
	}
	return f.assigners[p.Direction].Set(p.Name, all)
}

// replacePolicy replaces the policy of the same name. Its circuits stay, unless they have another meaning under the new
// policy: then the backends get new circuits. It returns the backends that are to be assigned in the new policy's
// direction.
func (f *inForce) replacePolicy(old, fresh *policyState, now int64) []discovery.Delta {
	dir := tables.Direction(old.Direction)
	fresh.reported, fresh.complete, fresh.discoveryErr = old.reported, old.complete, old.discoveryErr
	defer f.dropCompiled(old, now)
	if old.Direction != fresh.Direction {
		found := old.backendList(func(k discovery.Kind) bool { return k != discovery.KindLearned })
		for _, b := range old.backendList(nil) {
			f.dropBackend(old, dir, b.Addr, true, now)
		}
		return []discovery.Delta{f.assigners[fresh.Direction].Set(fresh.Name, found)}
	}
	if fresh.learned != nil && old.learned != nil {
		fresh.learned = old.learned
	}
	if old.Breaker.Scope == fresh.Breaker.Scope && old.Protocol == fresh.Protocol {
		f.exchange(old, fresh, now)
	} else {
		for _, b := range old.backendList(nil) {
			f.addBackend(fresh, dir, b, now)
			f.dropBackend(old, dir, b.Addr, false, now)
		}
	}
	var deltas []discovery.Delta
	for _, b := range fresh.backendList(func(k discovery.Kind) bool { return k == discovery.KindLearned }) {
		if inNetworks(fresh.Policy, b.Addr) == "" {
			old.learned.Forget(b.Addr)
			deltas = append(deltas, f.assigners[dir].Forget(fresh.Name, b.Addr))
		}
	}
	return deltas
}

// exchange replaces the settings of a policy's circuits, which keep their state.
func (f *inForce) exchange(old, fresh *policyState, now int64) {
	fresh.group, fresh.circuits = old.group, old.circuits
	for _, c := range fresh.circuits {
		f.dp.SetPolicy(c.id, fresh.index)
		c.policy = fresh
	}
	if err := fresh.group.Update(fresh.Breaker, breaker.Time(now), f.happened(fresh)); err != nil {
		// Scope cannot differ here, and the settings were valid for a new group.
		f.log.Error("cannot change the settings of the policy", "policy", old.Name, "error", err)
	}
}

// backendList returns the policy's backends of some kinds (nil: of all).
func (p *policyState) backendList(of func(discovery.Kind) bool) []discovery.Backend {
	var all []discovery.Backend
	for _, c := range p.circuits {
		for _, b := range c.backends {
			if of == nil || of(b.Kind) {
				all = append(all, b)
			}
		}
	}
	return all
}
