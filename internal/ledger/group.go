package ledger

import (
	"slices"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Group is a breaker.Group of which each circuit has an account.
type Group struct {
	book     *Book
	breaker  *breaker.Group
	changed  func([]breaker.Event)
	accounts map[*breaker.Circuit]*Account
	events   []breaker.Event
}

// Settings returns those in force.
func (g *Group) Settings() breaker.Settings { return g.breaker.Settings() }

// Known returns the number of backends.
func (g *Group) Known() int { return g.breaker.Known() }

// Ejected returns the number of circuits that count as ejected. See breaker.Group.Ejected.
func (g *Group) Ejected() int { return g.breaker.Ejected() }

// NextDeadline returns when Book.Advance will have something to do.
func (g *Group) NextDeadline() breaker.Time { return g.breaker.NextDeadline() }

// Open makes an account at a place in the kernel's table. Account.Begin or Account.Adopt gives it a circuit.
func (g *Group) Open(place int) *Account { return &Account{group: g, place: place} }

// Begin makes a backend known and puts the verdict of its circuit, which is new, in force.
func (a *Account) Begin(backend string, now breaker.Time) {
	a.enter(a.group.breaker.Add(backend, now))
	a.carryOut()
}

// Adopt makes a backend known whose circuit a former agent had at this place. It goes on from what the programs enforce
// and, if known, from what was saved: see Resume. It returns the state that it goes on from.
func (a *Account) Adopt(backend string, saved breaker.Snapshot, known bool, now breaker.Time) breaker.Snapshot {
	g, kernel := a.group, a.group.book.kernel
	s := Resume(saved, known, kernel.Published(a.place), int64(now))
	var c *breaker.Circuit
	c, g.events = g.breaker.Restore(backend, s, g.clock(now), g.events)
	a.tally = resumed(kernel.Progress(a.place))
	a.enter(c)
	a.carryOut()
	return s
}

// Join makes a backend known that shares the group's one circuit.
func (g *Group) Join(backend string, now breaker.Time) { g.breaker.Add(backend, now) }

// Remove forgets a backend, and its circuit with the last of its backends. The programs keep the verdict.
func (g *Group) Remove(backend string, now breaker.Time) {
	c := g.breaker.Circuit(backend)
	g.events = g.breaker.Remove(backend, g.clock(now), g.events)
	if a := g.accounts[c]; a != nil && !slices.Contains(g.breaker.Circuits(), c) {
		g.leave(a)
	}
	g.carryOut()
}

// Update puts new settings in force, and changed in the place of the function that is handed the events. Plain successes up
// to now are judged by the old settings. An error (breaker.Group.Update) leaves the settings as they were.
func (g *Group) Update(s breaker.Settings, now breaker.Time, changed func([]breaker.Event)) (err error) {
	g.changed = changed
	readUpTo := g.clock(now)
	for _, c := range g.breaker.Circuits() {
		g.accounts[c].catchUp(int64(now), readUpTo)
	}
	g.events, err = g.breaker.Update(s, readUpTo, g.events)
	for _, c := range g.breaker.Circuits() {
		g.accounts[c].publish()
	}
	g.carryOut()
	return err
}

// enter puts the account in the book.
func (a *Account) enter(c *breaker.Circuit) {
	a.group.book.enter(a)
	a.circuit, a.group.accounts[c] = c, a
}

// leave takes an account out of the book.
func (g *Group) leave(a *Account) {
	delete(g.accounts, a.circuit)
	g.book.leave(a)
}

// clock returns the time up to which all events have been read: no circuit of the group may be given a later one.
func (g *Group) clock(now breaker.Time) breaker.Time {
	readUpTo, _ := g.book.clock(int64(now))
	return readUpTo
}

// carryOut puts the verdicts of the circuits in force that have changed, and then hands the events on. Of a circuit that is
// gone there is nothing to put in force.
func (g *Group) carryOut() {
	if len(g.events) == 0 {
		return
	}
	for i := range g.events {
		e := &g.events[i]
		if a := g.accounts[e.Circuit]; a != nil && e.Kind != breaker.EventOverflow {
			a.publish()
		}
	}
	g.changed(g.events)
	g.events = g.events[:0]
}
