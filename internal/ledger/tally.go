package ledger

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// tally is what of a verdict's counts its circuit has been given. It begins at 0 with every verdict whose counts do.
type tally struct {
	outcomes uint64
	events   uint64 // the index of the next event
	duration time.Duration
	failures uint64 // among the events
	slow     uint64 // of these, successes
	missing  uint64 // events before the next that have not come: overtaken by another CPU's, or lost
	past     uint64 // events before this index are accounted for, if one comes all the same

	check *lossCheck // under way
	doubt doubt
}

// doubt is since when events are awaited although the ring is empty.
type doubt struct {
	events, received uint64
	since            int64
}

// resumed is the tally of a circuit that a former agent had. What was judged so far is not known one by one: the window
// begins empty, without the failures that are still in the ring, since the successes between them are not there.
func resumed(p Progress) tally {
	return tally{outcomes: p.Judged, events: p.Events, duration: p.Duration, failures: p.Failures, slow: p.Slow, past: p.Events}
}

// received returns how many events have come, or are accounted for.
func (t *tally) received() uint64 { return t.events - t.missing }

func (t *tally) count(ev *Event) {
	if ev.Failure {
		t.failures++
	} else if ev.Slow {
		t.slow++
	}
}

// take accounts for a judged outcome and for those that the programs judged before it without an event. These are plain
// successes: their number and the sum of their latencies is returned.
func (t *tally) take(ev *Event) (successes uint64, total time.Duration) {
	t.check.saw(ev)
	if ev.Index < t.events {
		// Another CPU's event overtook it. It was counted as missing then.
		t.missing = monus(t.missing, 1)
		t.count(ev)
		return 0, 0
	}
	missing := ev.Index - t.events
	successes = monus(ev.Ordinal, t.outcomes+missing)
	total = max(ev.Duration-time.Duration(ev.At-ev.Sent)-t.duration, 0)
	t.missing += missing
	t.outcomes, t.events, t.duration = ev.Ordinal+1, ev.Index+1, ev.Duration
	t.count(ev)
	return successes, total
}

// catchUp gives the circuit the plain successes since the latest event. Those before an event that is under way come
// with it. readUpTo is the time up to which all events have been read.
func (a *Account) catchUp(now int64, readUpTo breaker.Time) {
	t, kernel := &a.tally, a.group.book.kernel
	outcomes, events := kernel.Judged(a.place)
	if outcomes <= t.outcomes || events != t.events {
		return
	}
	p := kernel.Progress(a.place)
	if p.Judged != outcomes {
		outcomes = p.Judged
		if p.Events != t.events {
			return
		}
	}
	// Only a closed verdict has outcomes without an event.
	_, a.group.events = a.circuit.RecordSuccesses(readUpTo, a.circuit.Generation(), outcomes-t.outcomes,
		max(p.Duration-t.duration, 0), a.group.events)
	t.outcomes, t.duration = outcomes, p.Duration
	a.lastOutcome = now
	a.group.carryOut()
}

// inStep reports whether the programs judge at now in the generation that the circuit has when all events have been read.
// While it is behind, what they count is of a period that it has not entered.
func (a *Account) inStep(now int64, readUpTo breaker.Time) bool {
	v, s := a.group.book.kernel.Published(a.place), a.circuit.Status()
	return v.judging(now) == effectiveGeneration(&s, readUpTo)
}

// monus returns a-b, 0 if that is negative.
func monus(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
