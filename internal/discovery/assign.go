package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Assigner gives each backend to one policy: the first, in file order, of those that claim it. Its methods apply a change
// of the claims and return the change of the owners, at a cost that grows with the change and not with the number of
// backends. It is not safe for concurrent use; the zero value is ready.
type Assigner struct {
	order  map[string]int
	found  map[string][]Backend                   // by policy, sorted by address
	claims map[netip.AddrPort][]claim             // best first
	clash  map[netip.AddrPort]Conflict            // present conflicts
	sees   map[string]map[netip.AddrPort]struct{} // learned, by policy
}

type claim struct {
	policy  string
	backend Backend
}

// Owned is a backend and the policy that it belongs to.
type Owned struct {
	Policy  string
	Backend Backend
}

// Conflict is a backend that more than one policy claims.
type Conflict struct {
	Addr   netip.AddrPort
	Winner string
	Losers []string // in file order
}

// String describes the conflict in words.
func (c Conflict) String() string {
	return c.Addr.String() + " belongs to policy " + c.Winner + ", which comes first; also claimed by " + strings.Join(c.Losers, ", ")
}

// Delta is a change of the owners. A backend that moves between policies is in Removed and in Added; Removed should be
// applied first.
type Delta struct {
	Removed []Owned
	Added   []Owned
	Changed []Owned // same address and policy, something else about the backend is new

	Conflicts []Conflict       // new ones, or with another winner or other losers: to be reported once
	Resolved  []netip.AddrPort // no longer in conflict
}

// Empty reports whether the delta contains no change.
func (d Delta) Empty() bool {
	return len(d.Removed)+len(d.Added)+len(d.Changed)+len(d.Conflicts)+len(d.Resolved) == 0
}

// SetPolicies sets the policies, in file order. It removes the claims of policies that are not in the list any more, and
// keeps the others.
func (a *Assigner) SetPolicies(names []string) Delta {
	order := make(map[string]int, len(names))
	for i, name := range names {
		order[name] = i
	}
	touched := make(map[netip.AddrPort]struct{})
	for addr, all := range a.claims {
		if len(all) > 1 || !has(order, all[0].policy) {
			touched[addr] = struct{}{}
		}
	}
	before := a.owners(touched)
	a.order = order
	for name := range a.found {
		if !has(order, name) {
			delete(a.found, name)
		}
	}
	for name := range a.sees {
		if !has(order, name) {
			delete(a.sees, name)
		}
	}
	for addr := range touched {
		kept := slices.DeleteFunc(a.claims[addr], func(c claim) bool { return !has(order, c.policy) })
		a.put(addr, kept)
	}
	return a.delta(before)
}

// Set replaces the backends that discovery has found for a policy (Set.Backends of an Update), and keeps its learned
// backends. It ignores policies that SetPolicies has not set: the update of a removed policy may come late.
func (a *Assigner) Set(policy string, backends []Backend) Delta {
	if !has(a.order, policy) {
		return Delta{}
	}
	next := slices.Clone(backends)
	for i := range next {
		next[i].Addr = Normalize(next[i].Addr)
	}
	next = sortBackends(next)
	old := a.found[policy]
	touched := make(map[netip.AddrPort]struct{})
	for i, j := 0, 0; i < len(old) || j < len(next); {
		switch c := compareAt(old, i, next, j); {
		case c < 0:
			touched[old[i].Addr] = struct{}{}
			i++
		case c > 0:
			touched[next[j].Addr] = struct{}{}
			j++
		default:
			if old[i] != next[j] {
				touched[next[j].Addr] = struct{}{}
			}
			i++
			j++
		}
	}
	before := a.owners(touched)
	if a.found == nil {
		a.found = make(map[string][]Backend)
	}
	a.found[policy] = next
	for addr := range touched {
		kept := slices.DeleteFunc(a.claims[addr], func(c claim) bool { return c.policy == policy && c.backend.Kind != KindLearned })
		if i, ok := slices.BinarySearchFunc(next, addr, func(b Backend, at netip.AddrPort) int { return b.Addr.Compare(at) }); ok {
			kept = append(kept, claim{policy, next[i]})
		}
		a.put(addr, kept)
	}
	return a.delta(before)
}

// Learn adds a backend that was seen in the traffic of a policy's range; source is the range as written.
func (a *Assigner) Learn(policy, source string, addr netip.AddrPort) Delta {
	addr = Normalize(addr)
	if _, known := a.sees[policy][addr]; known || !has(a.order, policy) {
		return Delta{}
	}
	before := a.owners(map[netip.AddrPort]struct{}{addr: {}})
	if a.sees == nil {
		a.sees = make(map[string]map[netip.AddrPort]struct{})
	}
	if a.sees[policy] == nil {
		a.sees[policy] = make(map[netip.AddrPort]struct{})
	}
	a.sees[policy][addr] = struct{}{}
	a.put(addr, append(a.claims[addr], claim{policy, Backend{Addr: addr, Kind: KindLearned, Source: source}}))
	return a.delta(before)
}

// Forget removes a backend that Learn added.
func (a *Assigner) Forget(policy string, addr netip.AddrPort) Delta {
	addr = Normalize(addr)
	if _, known := a.sees[policy][addr]; !known {
		return Delta{}
	}
	before := a.owners(map[netip.AddrPort]struct{}{addr: {}})
	delete(a.sees[policy], addr)
	a.put(addr, slices.DeleteFunc(a.claims[addr], func(c claim) bool { return c.policy == policy && c.backend.Kind == KindLearned }))
	return a.delta(before)
}

// Owner returns the policy of a backend, and false when no policy claims it.
func (a *Assigner) Owner(addr netip.AddrPort) (Owned, bool) {
	all := a.claims[Normalize(addr)]
	if len(all) == 0 {
		return Owned{}, false
	}
	return Owned{all[0].policy, all[0].backend}, true
}

// Len returns how many backends have an owner.
func (a *Assigner) Len() int { return len(a.claims) }

// All returns every backend with its owner, sorted by address.
func (a *Assigner) All() []Owned {
	all := make([]Owned, 0, len(a.claims))
	for _, c := range a.claims {
		all = append(all, Owned{c[0].policy, c[0].backend})
	}
	sortOwned(all)
	return all
}

// Conflicts returns the present conflicts, sorted by address.
func (a *Assigner) Conflicts() []Conflict {
	all := make([]Conflict, 0, len(a.clash))
	for _, c := range a.clash {
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y Conflict) int { return x.Addr.Compare(y.Addr) })
	return all
}

// put stores the claims of one address, best first.
func (a *Assigner) put(addr netip.AddrPort, all []claim) {
	if len(all) == 0 {
		delete(a.claims, addr)
		return
	}
	slices.SortStableFunc(all, func(x, y claim) int {
		return cmp.Or(cmp.Compare(a.order[x.policy], a.order[y.policy]), cmp.Compare(x.backend.Kind, y.backend.Kind))
	})
	if a.claims == nil {
		a.claims = make(map[netip.AddrPort][]claim)
	}
	a.claims[addr] = all
}

// owners returns the present owners of the addresses; the zero Owned means that there is none.
func (a *Assigner) owners(addrs map[netip.AddrPort]struct{}) map[netip.AddrPort]Owned {
	now := make(map[netip.AddrPort]Owned, len(addrs))
	for addr := range addrs {
		now[addr], _ = a.Owner(addr)
	}
	return now
}

// delta compares former owners with the present ones.
func (a *Assigner) delta(before map[netip.AddrPort]Owned) Delta {
	var d Delta
	for addr, was := range before {
		is, owned := a.Owner(addr)
		switch {
		case was == is:
		case was.Policy == is.Policy && owned:
			d.Changed = append(d.Changed, is)
		default:
			if was.Policy != "" {
				d.Removed = append(d.Removed, was)
			}
			if owned {
				d.Added = append(d.Added, is)
			}
		}
		a.noteConflict(addr, &d)
	}
	sortOwned(d.Removed)
	sortOwned(d.Added)
	sortOwned(d.Changed)
	slices.SortFunc(d.Conflicts, func(x, y Conflict) int { return x.Addr.Compare(y.Addr) })
	slices.SortFunc(d.Resolved, netip.AddrPort.Compare)
	return d
}

func (a *Assigner) noteConflict(addr netip.AddrPort, d *Delta) {
	var now Conflict
	for i, c := range a.claims[addr] {
		switch {
		case i == 0:
			now = Conflict{Addr: addr, Winner: c.policy}
		case c.policy != now.Winner && !slices.Contains(now.Losers, c.policy):
			now.Losers = append(now.Losers, c.policy)
		}
	}
	was, lasted := a.clash[addr]
	switch {
	case len(now.Losers) == 0 && lasted:
		delete(a.clash, addr)
		d.Resolved = append(d.Resolved, addr)
	case len(now.Losers) > 0 && (!lasted || was.Winner != now.Winner || !slices.Equal(was.Losers, now.Losers)):
		if a.clash == nil {
			a.clash = make(map[netip.AddrPort]Conflict)
		}
		a.clash[addr] = now
		d.Conflicts = append(d.Conflicts, now)
	}
}

func compareAt(old []Backend, i int, next []Backend, j int) int {
	switch {
	case i == len(old):
		return 1
	case j == len(next):
		return -1
	}
	return old[i].Addr.Compare(next[j].Addr)
}

func sortOwned(all []Owned) {
	slices.SortFunc(all, func(x, y Owned) int { return x.Backend.Addr.Compare(y.Backend.Addr) })
}

func has[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}
