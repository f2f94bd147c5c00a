package ledger

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// The ring has no room for all events when they come faster than they are read. The programs count those that they lose.
// When that count has grown, the counts of every circuit are noted, and compared with the events that have come once all
// that was in the ring then has been read. What is missing by then was lost, and its circuit is given it by number.

// Repair is what was recovered for one circuit from the programs' counts.
type Repair struct {
	Account  *Account
	Events   uint64 // that did not come; of permits, at least so many
	Lost     uint64 // of these, events of judged outcomes
	Failures uint64 // of these
	Slow     uint64 // of the others
	// Unexplained is how many of Events no full ring explains: an error of the programs' accounts or of this one.
	Unexplained uint64

	Probes       bool // in half-open; the next two are set
	Permits      int  // used, as the programs count
	KnownPermits int  // used, as the circuit knew
}

// losses is what a Book knows of events that the ring had no room for.
type losses struct {
	known     uint64 // of Kernel.LostEvents, those that have been looked for
	explained uint64 // of Kernel.LostEvents, those that explain what was recovered

	phase phase  // of the check under way
	upTo  uint64 // what LostEvents was when it began
	read  uint64 // Book.read when everything that was in the ring has been read
	since int64  // when the phase began
}

type phase uint8

const (
	idle     phase = iota
	noted          // the counts are noted; programs may be about to submit events of these
	awaiting       // the events of these are in the ring, or read
)

// explain returns how many of n recovered events are not among those that the programs lost.
func (l *losses) explain(lost, n uint64) (unexplained uint64) {
	explained := min(n, lost-l.explained)
	l.explained += explained
	return n - explained
}

// wait returns how long counts must not change before what is missing is taken as lost.
func (l *losses) wait(lost uint64) time.Duration {
	if lost > l.explained {
		return settled
	}
	return doubtful
}

// lossCheck compares a circuit's counts of one moment with the events that have come of those outcomes.
type lossCheck struct {
	Progress        // at that moment
	unseen   uint64 // events that had not come then, and have not since
	failures uint64 // among these
	slow     uint64 // among these, successes
}

// saw takes note of an event.
func (l *lossCheck) saw(ev *Event) {
	if l == nil || ev.Index >= l.Events || l.unseen == 0 {
		return
	}
	l.unseen--
	if ev.Failure {
		l.failures = monus(l.failures, 1)
	} else if ev.Slow {
		l.slow = monus(l.slow, 1)
	}
}

// recoverLost recovers events that the ring had no room for.
func (b *Book) recoverLost(now int64, readUpTo breaker.Time, repairs []Repair) []Repair {
	l := &b.losses
	switch lost := b.kernel.LostEvents(); {
	case l.phase == idle && lost != l.known:
		l.phase, l.upTo, l.since = noted, lost, now
		for _, a := range b.accounts {
			if a != nil {
				a.beginCheck(b.kernel.Progress(a.place))
			}
		}
	case l.phase == noted && now-l.since >= int64(settled):
		l.phase, l.read, l.since = awaiting, b.read+uint64(b.kernel.EventsWaiting()), now
	case l.phase == awaiting && now-l.since >= int64(settled) && (b.kernel.EventsWaiting() == 0 || b.read >= l.read):
		// One that was in the reader's hand has been applied since.
		l.known, l.phase = l.upTo, idle
		for _, a := range b.accounts {
			if a == nil || a.tally.check == nil {
				continue
			}
			if !a.inStep(now, readUpTo) {
				l.phase = awaiting
				continue
			}
			if r, ok := a.recover(readUpTo); ok {
				r.Unexplained = l.explain(lost, r.Lost)
				repairs = append(repairs, r)
			}
		}
	}
	return repairs
}

// checkAwaited recovers events that the ring cannot hold, since it is empty, without a loss that the programs reported.
func (a *Account) checkAwaited(now int64, drained bool) (Repair, bool) {
	t, l, kernel := &a.tally, &a.group.book.losses, a.group.book.kernel
	_, events := kernel.Judged(a.place)
	if l.phase != idle || kernel.LostEvents() != l.known || events == t.received() {
		t.doubt = doubt{}
		return Repair{}, false
	}
	if d := (doubt{events, t.received(), t.doubt.since}); !drained || d != t.doubt {
		t.doubt = doubt{events, t.received(), now}
		return Repair{}, false
	}
	if now-t.doubt.since < int64(l.wait(kernel.LostEvents())) || !a.inStep(now, breaker.Time(now)) {
		return Repair{}, false
	}
	t.doubt = doubt{}
	a.beginCheck(kernel.Progress(a.place))
	if t.check == nil {
		return Repair{}, false
	}
	r, ok := a.recover(breaker.Time(now))
	if ok {
		r.Unexplained = l.explain(kernel.LostEvents(), r.Lost)
	}
	return r, ok
}

func (a *Account) beginCheck(p Progress) {
	t := &a.tally
	seen := t.received()
	if a.probesSoon() || p.Events <= seen {
		return
	}
	t.check = &lossCheck{
		Progress: p, unseen: p.Events - seen, failures: monus(p.Failures, t.failures), slow: monus(p.Slow, t.slow),
	}
}

// probesSoon reports whether what the programs count now, or next, are probes: checkProbes recovers those.
func (a *Account) probesSoon() bool {
	return a.circuit.Probing() || a.circuit.State() == breaker.StateOpen && !a.ramps()
}

// recover gives the circuit the events that did not come: the counts say what they were.
func (a *Account) recover(at breaker.Time) (Repair, bool) {
	t, g := &a.tally, a.group
	check := t.check
	t.check = nil
	if check.unseen == 0 || a.probesSoon() {
		return Repair{}, false
	}
	r := Repair{Account: a, Events: check.unseen, Lost: check.unseen, Failures: min(check.unseen, check.failures)}
	r.Slow = min(r.Lost-r.Failures, check.slow)
	plain := r.Lost - r.Failures - r.Slow
	if check.Events > t.events {
		// The latest are among the lost, and so are the successes between them.
		plain += monus(check.Judged-t.outcomes, check.Events-t.events)
		t.outcomes, t.events, t.duration, t.missing = check.Judged, check.Events, check.Duration, 0
	} else {
		t.missing = monus(t.missing, r.Lost)
	}
	t.failures += r.Failures
	t.slow += r.Slow
	t.past = check.Events
	s := a.circuit.Status()
	g.events = spread(a.circuit, at, effectiveGeneration(&s, at), r.Failures, r.Slow, plain, g.events)
	g.carryOut()
	return r, true
}

// spreadMost bounds the work of giving lost events to a circuit one by one.
const spreadMost = 100_000

// spread gives a circuit outcomes that are known by number only as if they had come evenly mixed: all failures first would
// be a streak, and a rate, that never was.
func spread(
	c *breaker.Circuit, at breaker.Time, generation uint32, failures, slow, plain uint64, buf []breaker.Event,
) []breaker.Event {
	rounds := max(min(failures+slow, max(plain, 1), spreadMost), 1)
	part := func(n, i uint64) uint64 { return n*(i+1)/rounds - n*i/rounds }
	for i := range rounds {
		_, buf = c.RecordSuccesses(at, generation, part(plain, i), -1, buf)
		_, buf = c.RecordLost(at, generation, part(failures, i), part(slow, i), buf)
	}
	return buf
}
