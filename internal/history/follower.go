package history

import (
	"fmt"
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/view"
)

// Follower receives each new record, as far as it keeps up.
type Follower struct {
	history *History
	records chan view.Record
	missed  atomic.Uint64
}

// MaxFollowers limits the memory of followers: a buffer of a thousand records is some hundred kilobytes.
const MaxFollowers = 32

// ErrFollowers means that there are MaxFollowers followers already.
var ErrFollowers = fmt.Errorf("%d readers follow the events already: end one of them, or ask again without following", MaxFollowers)

// Follow returns up to n of the newest records and a Follower of all later ones. It misses records for which its buffer has
// no room. Close ends it. The error is ErrFollowers.
func (h *History) Follow(n, buffer int) ([]view.Record, *Follower, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.followers) >= MaxFollowers {
		h.rejected++
		return nil, nil, ErrFollowers
	}
	f := &Follower{history: h, records: make(chan view.Record, buffer)}
	if h.closed {
		f.end()
	} else {
		h.followers[f] = struct{}{}
	}
	past := append([]view.Record(nil), h.records[max(0, len(h.records)-min(n, Kept)):]...)
	return past, f, nil
}

// Records returns the channel of new records. It is closed when the history is.
func (f *Follower) Records() <-chan view.Record { return f.records }

// Missed returns how many records did not fit since the last call.
func (f *Follower) Missed() uint64 { return f.missed.Swap(0) }

// Close ends the follower. Calling it again, or after the end of the history, does nothing.
func (f *Follower) Close() {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	delete(f.history.followers, f)
}

// offer sends a record if there is room. The history's lock is held.
func (f *Follower) offer(r view.Record) {
	select {
	case f.records <- r:
	default:
		f.missed.Add(1)
		f.history.dropped.Add(1)
	}
}

func (f *Follower) end() { close(f.records) }

// Followers returns the number of followers now, of the records that all followers have missed so far, and of the rejected
// followers.
func (h *History) Followers() (now int, missed, rejected uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.followers), h.dropped.Load(), h.rejected
}
