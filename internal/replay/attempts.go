package replay

import (
	"sort"

	"github.com/cbagent/cbagent/internal/breaker"
)

// backend is one backend of the trace and its requests that are in flight.
type backend struct {
	*record
	attempts []attempt // by time
	oldest   int       // those before have been answered
	young    int       // those before have been answered or are of an earlier generation
}

type attempt struct {
	at         breaker.Time
	generation uint32
	permit     bool
	answered   bool
}

// take returns the attempt that an outcome belongs to and marks it as answered: the one made at began, or the oldest.
func (b *backend) take(hasBegan bool, began breaker.Time) (attempt, bool) {
	b.forget()
	i := b.oldest
	if hasBegan {
		open := b.attempts[i:]
		i += sort.Search(len(open), func(k int) bool { return open[k].at >= began })
		for i < len(b.attempts) && b.attempts[i].at == began && b.attempts[i].answered {
			i++
		}
		if i < len(b.attempts) && b.attempts[i].at != began {
			return attempt{}, false
		}
	}
	if i >= len(b.attempts) {
		return attempt{}, false
	}
	b.attempts[i].answered = true
	return b.attempts[i], true
}

// forget drops the answered ones at the front.
func (b *backend) forget() {
	for b.oldest < len(b.attempts) && b.attempts[b.oldest].answered {
		b.oldest++
	}
	if b.oldest < 1024 || b.oldest < len(b.attempts)/2 {
		return
	}
	b.young = max(0, b.young-b.oldest)
	b.attempts = append(b.attempts[:0], b.attempts[b.oldest:]...)
	b.oldest = 0
}

// setPending reports the oldest unanswered request of this generation to the circuit.
func (r *record) setPending() {
	if !r.pends {
		return
	}
	oldest, ok := breaker.Never, false
	for _, b := range r.backends {
		b.young = max(b.young, b.oldest)
		for b.young < len(b.attempts) && (b.attempts[b.young].answered || b.attempts[b.young].generation != r.circuit.Generation()) {
			b.young++
		}
		if b.young < len(b.attempts) {
			oldest, ok = min(oldest, b.attempts[b.young].at), true
		}
	}
	r.circuit.SetOldestPending(oldest, ok)
}

// generationAt returns the generation in which a moment lies.
func (r *record) generationAt(t breaker.Time) uint32 {
	return uint32(sort.Search(len(r.begins), func(i int) bool { return r.begins[i] > t }))
}
