package ledger

import (
	"slices"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Book holds the accounts of all circuits.
type Book struct {
	kernel      Kernel
	accounts    []*Account // by place; nil: free
	groups      []*Group   // those with an account
	read        uint64     // events
	lastEventAt int64      // the latest time of these
	upTo        int64      // all events up to this time have been read
	losses      losses
}

// NewBook returns a book without accounts.
func NewBook(k Kernel, now int64) *Book {
	lost := k.LostEvents()
	return &Book{kernel: k, upTo: now, losses: losses{known: lost, explained: lost}}
}

// NewGroup makes a group without backends; see breaker.NewGroup. changed is handed the events of its circuits when their
// verdicts are in force. It must not change a circuit, nor keep the slice.
func (b *Book) NewGroup(name string, s breaker.Settings, seed uint64, changed func([]breaker.Event)) (*Group, error) {
	g, err := breaker.NewGroup(name, s, seed)
	if err != nil {
		return nil, err
	}
	return &Group{book: b, breaker: g, changed: changed, accounts: map[*breaker.Circuit]*Account{}}, nil
}

// EventsRead returns how many events Apply was called with.
func (b *Book) EventsRead() uint64 { return b.read }

// Apply hands an event to its circuit. Events are applied in the order in which they were read. One of a circuit that is
// gone does nothing, nor does EventLearn or EventSweep.
func (b *Book) Apply(ev *Event) {
	b.read++
	b.lastEventAt = max(b.lastEventAt, ev.At)
	if ev.Circuit < 0 || ev.Circuit >= len(b.accounts) || b.accounts[ev.Circuit] == nil {
		return
	}
	b.accounts[ev.Circuit].apply(ev)
}

// clock returns the time up to which all events have been read, at most now. With events in the ring that is the time of
// the latest one read: a probe that reported in time, but is not read yet, must not be found to be late.
func (b *Book) clock(now int64) (readUpTo breaker.Time, drained bool) {
	drained = b.kernel.EventsWaiting() == 0
	if drained {
		b.upTo = max(b.upTo, now)
	} else {
		b.upTo = max(b.upTo, b.lastEventAt)
	}
	return breaker.Time(min(now, b.upTo)), drained
}

// Advance gives the circuits what the programs counted without an event, recovers events that were lost, and does what
// was due at or before now. It is called every 100 ms or so. It returns what it recovered.
func (b *Book) Advance(now int64) []Repair {
	var repairs []Repair
	readUpTo, drained := b.clock(now)
	for _, a := range b.accounts {
		switch {
		case a == nil:
		case a.circuit.Probing():
			if r, ok := a.checkProbes(now, drained); ok {
				repairs = append(repairs, r)
			}
		default:
			a.catchUp(now, readUpTo)
			if r, ok := a.checkAwaited(now, drained); ok {
				repairs = append(repairs, r)
			}
		}
	}
	repairs = b.recoverLost(now, readUpTo, repairs)
	for _, g := range b.groups {
		if g.breaker.NextDeadline() <= readUpTo {
			g.events = g.breaker.Advance(readUpTo, g.events)
			g.carryOut()
		}
	}
	return repairs
}

func (b *Book) enter(a *Account) {
	for len(b.accounts) <= a.place {
		b.accounts = append(b.accounts, nil)
	}
	b.accounts[a.place] = a
	if g := a.group; len(g.accounts) == 0 {
		b.groups = append(b.groups, g)
	}
}

func (b *Book) leave(a *Account) {
	b.accounts[a.place] = nil
	if g := a.group; len(g.accounts) == 0 {
		b.groups = slices.DeleteFunc(b.groups, func(h *Group) bool { return g == h })
	}
}
