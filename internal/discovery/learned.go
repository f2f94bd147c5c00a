package discovery

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"
)

// Learned is the bounded set of backends that were seen in the traffic of one policy's ranges. When it is full, a new one
// evicts the one that has been idle longest. It reads no clock: times are distances from any fixed origin and should not
// decrease. Every method but Age takes constant time. It is not safe for concurrent use.
type Learned struct {
	max     int
	idle    time.Duration
	byAddr  map[netip.AddrPort]*learned
	byUse   *list.List // of *learned, longest idle first, without the held ones
	counter LearnedCounters
}

type learned struct {
	addr  netip.AddrPort
	used  time.Duration
	place *list.Element // in byUse; nil while held
}

// LearnedCounters only grow.
type LearnedCounters struct {
	Learned  uint64 // added
	Evicted  uint64 // removed for another because the set was full
	Rejected uint64 // not added: the set was full, and all in it were held
	Aged     uint64 // removed after the idle time
}

// NewLearned returns an empty set of at most max backends (1 or more), each kept for idle after its last use (more
// than 0).
func NewLearned(max int, idle time.Duration) (*Learned, error) {
	if max < 1 || idle <= 0 {
		return nil, fmt.Errorf("learned backends: the bound must be at least 1 and the idle time more than 0, got %d and %v", max, idle)
	}
	return &Learned{max: max, idle: idle, byAddr: make(map[netip.AddrPort]*learned), byUse: list.New()}, nil
}

// Learn adds addr, or marks it used when it is in the set. It returns whether addr is in the set now, and the backend that
// it evicted (the zero AddrPort if none).
func (l *Learned) Learn(addr netip.AddrPort, now time.Duration) (admitted bool, evicted netip.AddrPort) {
	addr = Normalize(addr)
	if l.Touch(addr, now) {
		return true, netip.AddrPort{}
	}
	if len(l.byAddr) >= l.max {
		oldest := l.byUse.Front()
		if oldest == nil {
			l.counter.Rejected++
			return false, netip.AddrPort{}
		}
		evicted = oldest.Value.(*learned).addr
		l.Forget(evicted)
		l.counter.Evicted++
	}
	entry := &learned{addr: addr, used: now}
	entry.place = l.byUse.PushBack(entry)
	l.byAddr[addr] = entry
	l.counter.Learned++
	return true, evicted
}

// Touch marks addr used and reports whether it is in the set.
func (l *Learned) Touch(addr netip.AddrPort, now time.Duration) bool {
	entry, ok := l.byAddr[Normalize(addr)]
	if !ok {
		return false
	}
	entry.used = max(entry.used, now)
	if entry.place != nil {
		l.byUse.MoveToBack(entry.place)
	}
	return true
}

// Hold keeps addr from being evicted or aged while held is true, which is for as long as its circuit is not closed: a
// client that connects to many addresses must not evict a failing one. Its end counts as a use. An address that is not in
// the set is ignored.
func (l *Learned) Hold(addr netip.AddrPort, held bool, now time.Duration) {
	entry, ok := l.byAddr[Normalize(addr)]
	switch {
	case !ok || held == (entry.place == nil):
	case held:
		l.byUse.Remove(entry.place)
		entry.place = nil
	default:
		entry.used = max(entry.used, now)
		entry.place = l.byUse.PushBack(entry)
	}
}

// Age removes and returns those that have been idle for the idle time or longer, longest idle first.
func (l *Learned) Age(now time.Duration) []netip.AddrPort {
	var gone []netip.AddrPort
	for e := l.byUse.Front(); e != nil; e = l.byUse.Front() {
		entry := e.Value.(*learned)
		if now-entry.used < l.idle {
			break
		}
		gone = append(gone, entry.addr)
		l.Forget(entry.addr)
		l.counter.Aged++
	}
	return gone
}

// Forget removes addr, held or not, without counting it.
func (l *Learned) Forget(addr netip.AddrPort) {
	addr = Normalize(addr)
	if entry, ok := l.byAddr[addr]; ok {
		delete(l.byAddr, addr)
		if entry.place != nil {
			l.byUse.Remove(entry.place)
		}
	}
}

// Has reports whether addr is in the set, without marking it used.
func (l *Learned) Has(addr netip.AddrPort) bool {
	_, ok := l.byAddr[Normalize(addr)]
	return ok
}

// Len returns how many there are.
func (l *Learned) Len() int { return len(l.byAddr) }

// Counters returns the counters so far.
func (l *Learned) Counters() LearnedCounters { return l.counter }
