package agent

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/records"
	"github.com/cbagent/cbagent/internal/tables"
)

// circuitState is one circuit and its place in the kernel.
type circuitState struct {
	id       int
	name     string // of the backend, in the breaker's words
	policy   *policyState
	circuit  *ledger.Account
	backends map[netip.AddrPort]discovery.Backend

	trail   records.Trail
	touched int64 // LastOutcome when the learned backends were last touched
}

func (a *Agent) onBackends(u discovery.Update) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	var deltas [2][]discovery.Delta
	for _, s := range u.Sets {
		p, ok := a.policies[s.Policy]
		if !ok {
			continue
		}
		p.reported, p.complete, p.discoveryErr = true, s.Complete, s.Err
		deltas[p.Direction] = append(deltas[p.Direction], a.assigners[p.Direction].Set(s.Policy, s.Backends))
	}
	for dir := range deltas {
		a.assign(tables.Direction(dir), now, deltas[dir]...)
	}
	a.noteReady()
}

// assign applies changes of the owners of backends that belong together. A backend that moves from one policy to another
// gets its new circuit by one store, so it has a circuit at every moment.
func (f *inForce) assign(dir tables.Direction, now int64, deltas ...discovery.Delta) {
	was := map[netip.AddrPort]string{} // policies, by backend; "" = none
	note := func(o discovery.Owned, policy string) {
		if _, known := was[o.Backend.Addr]; !known {
			was[o.Backend.Addr] = policy
		}
	}
	for _, d := range deltas {
		for _, o := range d.Removed {
			note(o, o.Policy)
		}
		for _, o := range d.Added {
			note(o, "")
		}
		for _, o := range d.Changed {
			note(o, o.Policy)
		}
		for _, c := range d.Conflicts {
			f.log.Warn("backend in more than one policy", "backend", c.Addr, "policy", c.Winner, "ignored", c.Losers)
		}
	}
	if len(was) > 0 {
		f.addresses.Expire()
		f.refreshAddresses(now)
	}
	for _, addr := range slices.SortedFunc(maps.Keys(was), netip.AddrPort.Compare) {
		policy := was[addr]
		is, owned := f.assigners[dir].Owner(addr)
		if p := f.policies[is.Policy]; owned && p != nil && tables.Direction(p.Direction) == dir {
			f.addBackend(p, dir, is.Backend, now)
		}
		if p := f.policies[policy]; p != nil && policy != is.Policy && tables.Direction(p.Direction) == dir {
			f.dropBackend(p, dir, addr, !owned, now)
		}
	}
}

func (p *policyState) circuitName(addr netip.AddrPort) string {
	if p.Breaker.Scope == breaker.ScopePolicy {
		return breaker.SharedBackend
	}
	return addr.String()
}

func (f *inForce) addBackend(p *policyState, dir tables.Direction, b discovery.Backend, now int64) {
	name := p.circuitName(b.Addr)
	c := p.circuits[name]
	if c == nil {
		c = &circuitState{name: name, policy: p, backends: map[netip.AddrPort]discovery.Backend{}}
		adopted := f.adoptPlace(c, tables.Backend{Addr: b.Addr, Direction: dir})
		if !adopted && !f.takePlace(c, b.Addr, now) {
			f.unplaced[tables.Backend{Addr: b.Addr, Direction: dir}] = true
			return
		}
		p.circuits[name] = c
		for len(f.circuits) <= c.id {
			f.circuits = append(f.circuits, nil)
		}
		f.circuits[c.id] = c
		f.dp.SetPolicy(c.id, p.index)
		c.circuit = p.group.Open(c.id)
		if adopted { // a standing override was applied to it before, or removed since
			f.adopt(c, b.Addr.String(), now)
		} else {
			c.circuit.Begin(b.Addr.String(), breaker.Time(now))
			f.applyStanding(c, now)
		}
	} else {
		p.group.Join(b.Addr.String(), breaker.Time(now))
	}
	c.backends[b.Addr] = b
	c.hold(now)
	delete(f.unplaced, tables.Backend{Addr: b.Addr, Direction: dir})
	flags := f.addresses.Flags(b)
	if flags&tables.OnHost != 0 {
		f.dp.SetHostBackends(true)
	}
	if err := f.dp.PutBackend(tables.Backend{Addr: b.Addr, Direction: dir}, c.id, flags); err != nil {
		f.log.Error("cannot write the backend to the map", "policy", p.Name, "backend", b.Addr, "error", err)
	}
}

// takePlace takes a free place in the kernel's tables for a circuit.
func (f *inForce) takePlace(c *circuitState, addr netip.AddrPort, now int64) bool {
	id, ok := f.circuitPlaces.Take(now)
	if !ok {
		if !f.crowded {
			f.log.Error("no room for another circuit: raise --max-circuits; until there is room some backends are not protected",
				"policy", c.policy.Name, "backend", addr)
		}
		f.crowded = true
		return false
	}
	if err := f.dp.ResetCircuit(id, ownerOf(c.policy)); err != nil {
		f.log.Error("cannot reset the circuit", "policy", c.policy.Name, "backend", addr, "error", err)
		return false
	}
	c.id = id
	return true
}

// dropBackend removes a backend from a policy; free is true when no other policy has it now.
func (f *inForce) dropBackend(p *policyState, dir tables.Direction, addr netip.AddrPort, free bool, now int64) {
	if free {
		if err := f.dp.RemoveBackend(tables.Backend{Addr: addr, Direction: dir}); err != nil {
			f.log.Error("cannot remove the backend from the map", "policy", p.Name, "backend", addr, "error", err)
		}
	}
	delete(f.unplaced, tables.Backend{Addr: addr, Direction: dir})
	c := p.circuits[p.circuitName(addr)]
	if c == nil {
		return
	}
	delete(c.backends, addr)
	if len(c.backends) == 0 {
		f.noteDroppedOverride(c)
		delete(p.circuits, c.name)
		f.circuits[c.id] = nil
		f.release(c.id, now)
	}
	p.group.Remove(addr.String(), breaker.Time(now))
}

// watchCIDRs makes the kernel report connections into the networks of the policies in force, and into no others.
func (f *inForce) watchCIDRs() error {
	var all []tables.Network
	for _, p := range f.policies {
		for _, c := range p.Match.CIDRs {
			all = append(all, tables.Network{Prefix: c.Prefix, Port: c.Port, Direction: tables.Direction(p.Direction)})
		}
	}
	if f.nodeInNetworks() {
		f.dp.SetHostBackends(true)
	}
	return f.dp.SetNetworks(all)
}

// learn adds a backend that a client connected to, for the first policy whose networks contain it.
func (f *inForce) learn(addr netip.AddrPort, dir tables.Direction, now int64) {
	for _, want := range f.set.Policies {
		p := f.policies[want.Name]
		if p == nil || tables.Direction(p.Direction) != dir || p.learned == nil {
			continue
		}
		source := inNetworks(p.Policy, addr)
		if source == "" {
			continue
		}
		ok, evicted := p.learned.Learn(addr, time.Duration(now))
		if evicted.IsValid() {
			f.assign(dir, now, f.assigners[dir].Forget(p.Name, evicted))
		}
		if ok {
			f.assign(dir, now, f.assigners[dir].Learn(p.Name, source, addr))
		}
		return
	}
}

func inNetworks(p *policy.Policy, addr netip.AddrPort) string {
	for _, c := range p.Match.CIDRs {
		if c.Port == addr.Port() && c.Prefix.Contains(addr.Addr()) {
			return netip.AddrPortFrom(c.Prefix.Addr(), c.Port).String()
		}
	}
	return ""
}

// ageLearned removes learned backends that have had no traffic for learnedIdle.
func (f *inForce) ageLearned(now int64) {
	for _, p := range f.policies {
		if p.learned == nil {
			continue
		}
		p.touch()
		dir := tables.Direction(p.Direction)
		for _, addr := range p.learned.Age(time.Duration(now)) {
			f.assign(dir, now, f.assigners[dir].Forget(p.Name, addr))
		}
	}
}
