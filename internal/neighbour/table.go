package neighbour

import (
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Key names a neighbour.
type Key struct {
	Link int // index of the interface
	Addr netip.Addr
}

// Route lists the neighbours through one of which an address is reached: the address itself if it is on the link, else its
// next hops. It is empty if no neighbour is resolved, or there is no route.
type Route []Key

// Update is the kernel's state of a neighbour.
type Update struct {
	Key
	State int    // NUD_*, 0 = none
	MAC   string // as bytes, empty = not known
	Gone  bool   // the entry was removed
	Admin bool   // a process made the change by netlink: it says nothing about the network
}

// Event is a change that concerns addresses of the table.
type Event struct {
	Neighbour Key
	Failed    bool         // an address resolution has failed; else the neighbour answers again
	First     bool         // it answered before
	Behind    []netip.Addr // addresses that are not reached now, or are again; sorted
}

// entry is the known state of a neighbour.
type entry struct {
	mac   string // the last known
	dead  bool   // its last resolution failed, and it has given no sign of life since
	fixed bool   // the kernel does not verify it
	gone  bool   // the kernel has no entry any more; kept as long as an address is behind it
}

// Table holds the neighbours and the addresses behind them. The zero value is empty. It does no I/O.
type Table struct {
	entries map[Key]*entry
	loaded  bool
	routes  map[netip.Addr]Route
	behind  map[Key][]netip.Addr
}

// SetRoutes replaces the routes to the addresses of interest.
func (t *Table) SetRoutes(routes map[netip.Addr]Route) {
	t.routes, t.behind = routes, map[Key][]netip.Addr{}
	for _, addr := range slices.SortedFunc(maps.Keys(routes), netip.Addr.Compare) {
		for _, hop := range routes[addr] {
			t.behind[hop] = append(t.behind[hop], addr)
		}
	}
	for k, e := range t.entries {
		t.forget(k, e)
	}
}

// alive are the states that an entry enters only after a packet of the neighbour.
const alive = unix.NUD_REACHABLE | unix.NUD_STALE

// static are states of entries that the kernel does not verify.
const static = unix.NUD_PERMANENT | unix.NUD_NOARP

// Apply applies an update. ok is false if it changes nothing for an address of the table.
func (t *Table) Apply(u Update) (ev Event, ok bool) {
	if t.entries == nil {
		t.entries = map[Key]*entry{}
	}
	e := t.entries[u.Key]
	if u.Gone {
		// The kernel removes failed and unused entries after a while. This does not mean that the neighbour answers.
		if e != nil {
			e.gone = true
			t.forget(u.Key, e)
		}
		return Event{}, false
	}
	if e == nil {
		e = &entry{}
		t.entries[u.Key] = e
	}
	e.gone, e.fixed = false, u.State&static != 0
	switch {
	case u.State&static != 0, !u.Admin && u.State&alive != 0:
		e.mac = u.MAC
		return t.setDead(u.Key, e, false)
	case u.Admin:
		return Event{}, false
	case u.State&unix.NUD_FAILED != 0:
		return t.setDead(u.Key, e, true)
	case u.MAC != "":
		e.mac = u.MAC
	}
	return Event{}, false
}

// forget removes an entry that the kernel does not have and that no address is behind.
func (t *Table) forget(k Key, e *entry) {
	if e.gone && len(t.behind[k]) == 0 {
		delete(t.entries, k)
	}
}

// setDead notes whether a neighbour answers, and returns the event of the change.
func (t *Table) setDead(k Key, e *entry, failed bool) (ev Event, ok bool) {
	first := e.dead != failed
	// The same addresses are cut off when it fails and reached again when it answers.
	e.dead = true
	behind := t.cutOff(k)
	e.dead = failed
	if len(behind) == 0 || !failed && !first {
		return Event{}, false
	}
	return Event{Neighbour: k, Failed: failed, First: first, Behind: behind}, true
}

// cutOff returns the addresses that are reached through no other neighbour than this one.
func (t *Table) cutOff(k Key) []netip.Addr {
	var all []netip.Addr
	for _, addr := range t.behind[k] {
		dead := func(hop Key) bool { e := t.entries[hop]; return e != nil && e.dead }
		if !slices.ContainsFunc(t.routes[addr], func(hop Key) bool { return !dead(hop) }) {
			all = append(all, addr)
		}
	}
	return all
}

// Load replaces all entries, at the start and after updates were lost. events are the changes for addresses of the table
// since; an entry that failed before the first Load has no event.
func (t *Table) Load(all []Update) (events []Event) {
	initial := !t.loaded
	t.loaded = true
	listed := map[Key]bool{}
	for _, u := range all {
		listed[u.Key] = true
		was := t.entries[u.Key]
		known := was != nil && was.dead
		ev, ok := t.Apply(u)
		if ok && !initial && (!ev.Failed || !known) {
			events = append(events, ev)
		}
	}
	for k, e := range t.entries {
		if !listed[k] {
			e.gone = true
			t.forget(k, e)
		}
	}
	return events
}

// Dead returns the neighbours that do not answer and are addresses of the table themselves, by address.
func (t *Table) Dead() map[netip.Addr]Key {
	all := map[netip.Addr]Key{}
	for k, e := range t.entries {
		if e.dead && slices.Equal(t.routes[k.Addr], Route{k}) {
			all[k.Addr] = k
		}
	}
	return all
}

// MAC returns the link-layer address that a neighbour had last, as bytes; empty if none is known.
func (t *Table) MAC(k Key) string {
	if e := t.entries[k]; e != nil {
		return e.mac
	}
	return ""
}

// IsDead reports whether a neighbour does not answer.
func (t *Table) IsDead(k Key) bool {
	e := t.entries[k]
	return e != nil && e.dead
}

// Unverified returns the link-layer address of a neighbour that is taken to be alive by what may have been no sign of life.
// ok is false if the neighbour is not an address of the table, is known to be dead, or has an entry that an administrator
// has made permanent.
func (t *Table) Unverified(addr netip.Addr) (k Key, mac string, ok bool) {
	r := t.routes[addr]
	if len(r) != 1 || r[0].Addr != addr {
		return Key{}, "", false
	}
	e := t.entries[r[0]]
	if e == nil || e.dead || e.gone || e.fixed || e.mac == "" {
		return Key{}, "", false
	}
	return r[0], e.mac, true
}
