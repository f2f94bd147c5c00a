package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
)

// The ring has no room for all events when they come faster than they are read. The programs count those that they lose.
// When that count has grown, every circuit's totals are noted, and compared with the events that have come once all that
// was in the ring then has been read. What is missing by then was lost, and its circuit is told of it by number.

// losses is what the agent knows of events that the ring had no room for.
type losses struct {
	known uint64 // of NodeCounts.LostEvents, those that have been looked for
	check bool   // one is under way
	upTo  uint64 // what LostEvents was when it began
	read  uint64 // Agent.ringEvents when everything that was in the ring has been read
	since int64
}

// lossCheck compares a circuit's totals of one moment with the events that have come of those outcomes.
type lossCheck struct {
	ledger.Progress        // at that moment
	unseen          uint64 // events that had not come then, and have not since
	failures, slow  uint64 // among these
}

// saw takes note of an event.
func (l *lossCheck) saw(ev *ledger.Event) {
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

// findLost looks after events that the ring had no room for.
func (a *Agent) findLost(now int64) {
	l := &a.losses
	if !l.check {
		if lost := a.dp.LostEvents(); lost != l.known {
			*l = losses{known: l.known, check: true, upTo: lost, since: now, read: a.ringEvents + uint64(a.dp.EventsWaiting())}
			for _, c := range a.circuits {
				if c != nil {
					c.beginCheck(a.dp.Progress(c.id))
				}
			}
		}
		return
	}
	// One that was submitted before is in the reader's hand at most: it has had a tick to come here.
	if now-l.since < int64(tick)/2 || a.dp.EventsWaiting() > 0 && a.ringEvents < l.read {
		return
	}
	for _, c := range a.circuits {
		if c != nil && c.told.check != nil {
			a.makeGood(c, now)
		}
	}
	l.known, l.check = l.upTo, false
}

func (c *circuitState) beginCheck(p ledger.Progress) {
	t := &c.told
	seen := t.events - t.missing
	if c.probesSoon() || p.Events <= seen {
		return
	}
	t.check = &lossCheck{
		Progress: p, unseen: p.Events - seen, failures: monus(p.Failures, t.failures), slow: monus(p.Slow, t.slow),
	}
}

// probesSoon reports whether what the kernel counts now, or next, are probes: those are looked after by themselves.
func (c *circuitState) probesSoon() bool {
	return c.circuit.Probing() || c.circuit.State() == breaker.StateOpen && c.policy.group.Settings().HalfOpen.Ramp == nil
}

// makeGood tells the circuit of the events that did not come: the totals say what they were.
func (a *Agent) makeGood(c *circuitState, now int64) {
	t := &c.told
	check := t.check
	t.check = nil
	if check.unseen == 0 || c.probesSoon() {
		return
	}
	failures := min(check.unseen, check.failures)
	slow := min(check.unseen-failures, check.slow)
	plain := check.unseen - failures - slow
	total := time.Duration(-1)
	if check.Events > t.events {
		// The latest are among the lost, and so are the successes between them.
		tail := check.Events - t.events
		plain += monus(check.Judged-t.outcomes, tail)
		t.outcomes, t.events, t.duration, t.missing = check.Judged, check.Events, check.Duration, 0
	} else {
		t.missing = monus(t.missing, check.unseen)
	}
	t.failures += failures
	t.slow += slow
	t.past = check.Events
	a.log.Warn("events were lost, the window is made whole from totals", "policy", c.policy.Name, "backend", c.name,
		"failures", failures, "slow", slow, "lost", check.unseen)
	a.watched.Recovered += check.unseen
	a.events = c.spread(now, fromKernel(a.dp.Generation(c.id, now)), failures, slow, plain, total, a.events[:0])
	a.carryOut(c.policy)
}

// spreadMost bounds the work of telling of lost events one by one.
const spreadMost = 100_000

// spread tells the circuit of outcomes that are known by number only, as if they had come evenly mixed: all failures
// first would be a streak, and a rate, that never was.
func (c *circuitState) spread(now int64, generation uint32, failures, slow, plain uint64, total time.Duration, buf []breaker.Event) []breaker.Event {
	rounds := min(failures+slow, max(plain, 1), spreadMost)
	if rounds == 0 {
		rounds = 1
	}
	part := func(n, i uint64) uint64 { return n*(i+1)/rounds - n*i/rounds }
	for i := range rounds {
		_, buf = c.circuit.RecordSuccesses(breaker.Time(now), generation, part(plain, i), total, buf)
		_, buf = c.circuit.RecordLost(breaker.Time(now), generation, part(failures, i), part(slow, i), buf)
	}
	return buf
}

// checkProbes compares what the circuit knows of its probes with what the kernel admitted. What does not fit, and stays
// so over a tick in which nothing happened, is because news was lost.
func (a *Agent) checkProbes(c *circuitState, now int64, drained bool) {
	t := &c.told
	s := c.circuit.Status()
	p := a.dp.Progress(c.id)
	fits := int(p.Permits) == s.Probes.Used && p.Events == t.events-t.missing
	if fits && int(p.InFlight) == s.Probes.InFlight+int(t.vanished) {
		t.probing = ledger.Progress{}
		return
	}
	if !drained || p != t.probing {
		t.probing = p
		return
	}
	t.probing = ledger.Progress{}
	if fits {
		// Probes that are given up here, and still out there, must not keep others from being sent.
		t.vanished = uint32(max(int(p.InFlight)-s.Probes.InFlight, 0))
		a.publish(c)
		return
	}
	lost := p.Events - min(p.Events, t.events-t.missing)
	failures := min(lost, monus(p.Failures, t.failures))
	slow := min(lost-failures, monus(p.Slow, t.slow))
	a.log.Warn("news of probes was lost, the kernel's counts say what became of them", "policy", c.policy.Name, "backend", c.name,
		"used", p.Permits, "knew", s.Probes.Used, "lost", lost, "failures", failures)
	a.watched.Recovered += lost
	t.outcomes, t.events, t.duration, t.missing, t.past = p.Judged, p.Events, p.Duration, 0, p.Events
	t.failures, t.slow = p.Failures, p.Slow
	a.events = c.circuit.Reconcile(breaker.Time(now), s.Generation, int(p.Permits), breaker.Lost{
		Failures: int(failures), Slow: int(slow), Plain: int(lost - failures - slow),
	}, a.events[:0])
	a.carryOut(c.policy)
}

func monus(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
