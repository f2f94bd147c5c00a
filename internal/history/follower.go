package history

import (
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/view"
)

// Follower gets each new record, as far as it keeps up.
type Follower struct {
	history *History
	records chan view.Record
	missed  atomic.Uint64
}

// Follow returns up to n of the newest records and a Follower of all later ones. It misses those for which its buffer has
// no room. Close ends it.
func (h *History) Follow(n, buffer int) ([]view.Record, *Follower) {
	f := &Follower{history: h, records: make(chan view.Record, buffer)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		f.end()
	} else {
		h.followers[f] = struct{}{}
	}
	past := append([]view.Record(nil), h.records[max(0, len(h.records)-n):]...)
	return past, f
}

// Records is where new ones come out. It is closed when the history is.
func (f *Follower) Records() <-chan view.Record { return f.records }

// Missed returns how many records did not fit since it was asked last.
func (f *Follower) Missed() uint64 { return f.missed.Swap(0) }

// Close ends it. Calling it again, or after the end of the history, does nothing.
func (f *Follower) Close() {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	delete(f.history.followers, f)
}

// offer hands over a record if there is room. The history's lock is held.
func (f *Follower) offer(r view.Record) {
	select {
	case f.records <- r:
	default:
		f.missed.Add(1)
		f.history.dropped.Add(1)
	}
}

func (f *Follower) end() { close(f.records) }

// Followers returns how many there are now, and how many records they all missed ever.
func (h *History) Followers() (now int, missed uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.followers), h.dropped.Load()
}
