package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/loader"
)

// The kernel counts generations from 1, since its 0 means that nothing is judged; the breaker from 0.
func toKernel(generation uint32) uint32   { return generation + 1 }
func fromKernel(generation uint32) uint32 { return generation - 1 }

// onEvent hands one event to its circuit. Callers hold mu.
func (a *Agent) onEvent(ev *loader.Event) {
	if ev.Kind == loader.EventLearn {
		a.learn(ev.Backend, ev.Direction, ev.At)
		return
	}
	if ev.Circuit >= len(a.circuits) || a.circuits[ev.Circuit] == nil {
		return // removed meanwhile
	}
	c := a.circuits[ev.Circuit]
	at, generation := breaker.Time(ev.At), fromKernel(ev.Generation)
	buf := a.events[:0]
	switch ev.Kind {
	case loader.EventProbe:
		buf = c.circuit.Began(breaker.Time(ev.Began), generation, buf)
	case loader.EventReturn:
		buf = c.circuit.Release(at, generation, breaker.Time(ev.Began), buf)
	case loader.EventOutcome:
		if ev.Judged && generation == c.effectiveGeneration(at) {
			buf = a.before(c, ev, buf)
		}
		_, buf = c.circuit.Record(at, &breaker.Outcome{
			Result: breaker.Result(ev.Result), HasLatency: true, Latency: time.Duration(ev.At - ev.Began),
			Permit: ev.Permit, Generation: generation, Began: breaker.Time(ev.Began), Client: ev.Client.Addr(),
		}, buf)
		if c.policy.learned != nil {
			for addr := range c.backends {
				c.policy.learned.Touch(addr, time.Duration(ev.At))
			}
		}
	}
	a.events = buf
	a.carryOut(c.policy)
}

// effectiveGeneration is the circuit's at that moment: an opening that has passed its deadline is the next already.
func (c *circuitState) effectiveGeneration(at breaker.Time) uint32 {
	s := c.circuit.Status()
	if s.State == breaker.StateOpen && at >= s.Until {
		return s.Generation + 1
	}
	return s.Generation
}

// before accounts for the outcomes that the kernel judged ahead of this event without telling: plain successes, and
// events that are late or lost.
func (a *Agent) before(c *circuitState, ev *loader.Event, buf []breaker.Event) []breaker.Event {
	if ev.Index < c.events {
		// It was overtaken by another CPU's, and counted as missing then.
		if c.missing > 0 {
			c.missing--
		}
		c.count(ev)
		return buf
	}
	missing := ev.Index - c.events
	if ev.Ordinal > c.outcomes+missing {
		n := ev.Ordinal - c.outcomes - missing
		total := ev.Duration - time.Duration(ev.At-ev.Began) - c.duration
		_, buf = c.circuit.RecordSuccesses(breaker.Time(ev.At), fromKernel(ev.Generation), n, max(total, 0), buf)
	}
	c.missing += missing
	if missing > 0 {
		a.late[c] = struct{}{}
	}
	c.outcomes, c.events, c.duration = ev.Ordinal+1, ev.Index+1, ev.Duration
	c.count(ev)
	return buf
}

func (c *circuitState) count(ev *loader.Event) {
	if ev.Failure {
		c.failures++
	} else if ev.Slow {
		c.slow++
	}
}

// catchUp reads the totals and tells the circuit of what no event told. drained: the ring was empty after the totals
// were counted, so that events which are missing now were overtaken or lost.
func (a *Agent) catchUp(c *circuitState, now int64, drained bool) {
	outcomes, events := a.dp.Judged(c.id)
	if outcomes == c.outcomes && c.missing == 0 {
		return
	}
	if events < c.events || outcomes < c.outcomes {
		return
	}
	unseen := events - c.events
	generation := fromKernel(a.dp.Generation(c.id, now))
	if unseen > 0 && (!drained || c.missed < 2) {
		// They are on their way: what lies between them is not known yet.
		c.missed++
		return
	}
	buf := a.events[:0]
	if outcomes-c.outcomes > unseen {
		p := a.dp.Progress(c.id)
		n := outcomes - c.outcomes - unseen
		_, buf = c.circuit.RecordSuccesses(breaker.Time(now), generation, n, max(p.Duration-c.duration, 0), buf)
		c.duration = p.Duration
	}
	c.outcomes, c.events = outcomes, events
	c.missing += unseen
	if c.missing > 0 && drained {
		if c.missed++; c.missed > 2 {
			buf = a.makeGood(c, generation, now, buf)
		}
	}
	if c.missing == 0 {
		c.missed = 0
	}
	a.events = buf
	a.carryOut(c.policy)
}

// makeGood tells the circuit of events that the ring had no room for: the totals say what they were.
func (a *Agent) makeGood(c *circuitState, generation uint32, now int64, buf []breaker.Event) []breaker.Event {
	p := a.dp.Progress(c.id)
	failures := min(c.missing, monus(p.Failures, c.failures))
	slow := min(c.missing-failures, monus(p.Slow, c.slow))
	_, buf = c.circuit.RecordLost(breaker.Time(now), generation, failures, slow, buf)
	if plain := c.missing - failures - slow; plain > 0 {
		_, buf = c.circuit.RecordSuccesses(breaker.Time(now), generation, plain, -1, buf)
	}
	a.log.Warn("events were lost, the window is made whole from totals", "policy", c.policy.Name, "backend", c.name,
		"failures", failures, "slow", slow, "lost", c.missing)
	a.watched.MadeGood += c.missing
	c.failures += failures
	c.slow += slow
	c.missing, c.missed = 0, 0
	return buf
}

func monus(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
