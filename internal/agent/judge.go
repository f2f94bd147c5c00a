package agent

import (
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
)

// The kernel counts generations from 1, since its 0 means that nothing is judged; the breaker from 0.
func toKernel(generation uint32) uint32   { return generation + 1 }
func fromKernel(generation uint32) uint32 { return generation - 1 }

// told is what of a verdict's counts its circuit has been told. It begins anew with every verdict.
type told struct {
	outcomes uint64
	events   uint64 // the index of the next event
	duration time.Duration
	failures uint64 // among the events
	slow     uint64 // of these, successes
	missing  uint64 // events before the next that have not come: overtaken, or lost
	past     uint64 // events before this index are recovered, if one comes all the same

	check    *lossCheck      // under way
	probing  ledger.Progress // in half-open, at the last tick at which it did not fit
	admitted map[probeKey]breaker.Time
	vanished uint32 // probes that have timed out here, but hold the kernel's places
}

// probeKey names the connection of a probe: each holds one permit at most.
type probeKey struct{ client, backend netip.AddrPort }

func (t *told) count(ev *ledger.Event) {
	if ev.Failure {
		t.failures++
	} else if ev.Slow {
		t.slow++
	}
}

// onEvent hands one event to its circuit. Callers hold mu.
func (a *Agent) onEvent(ev *ledger.Event) {
	a.heard = max(a.heard, ev.At)
	if ev.Kind == ledger.EventLearn {
		dir := loader.Outbound
		if ev.Inbound {
			dir = loader.Inbound
		}
		a.learn(ev.Backend, dir, ev.At)
		return
	}
	if ev.Circuit >= len(a.circuits) || a.circuits[ev.Circuit] == nil {
		return // removed meanwhile
	}
	c := a.circuits[ev.Circuit]
	if len(a.tracers) > 0 {
		a.trace(c, ev)
	}
	at, generation := breaker.Time(ev.At), fromKernel(ev.Generation)
	flow := probeKey{ev.Client, ev.Backend}
	buf := a.events[:0]
	switch ev.Kind {
	case ledger.EventProbe:
		buf = c.circuit.Began(breaker.Time(ev.Began), generation, buf)
		if c.circuit.Probing() && c.circuit.Generation() == generation {
			if c.told.admitted == nil {
				c.told.admitted = map[probeKey]breaker.Time{}
			}
			c.told.admitted[flow] = breaker.Time(ev.Began)
		}
	case ledger.EventReturn:
		buf = c.circuit.Release(at, generation, c.probeBegan(flow, generation, ev), buf)
	case ledger.EventOutcome:
		if ev.Judged && generation == c.effectiveGeneration(at) {
			if ev.Index < c.told.past {
				return
			}
			buf = a.before(c, ev, buf)
		}
		began := breaker.Time(ev.Began)
		if ev.Permit {
			began = c.probeBegan(flow, generation, ev)
		}
		_, buf = c.circuit.Record(at, &breaker.Outcome{
			Result: breaker.Result(ev.Result), HasLatency: true, Latency: time.Duration(ev.At - ev.Sent),
			Permit: ev.Permit || ev.Judged && c.ramps(), Generation: generation, Began: began, Client: ev.Client.Addr(),
		}, buf)
		c.touch(ev.At)
	}
	a.events = buf
	a.carryOut(c.policy)
}

// ramps reports whether half-open admits a share instead of probes. There the kernel gives its generation to those in the
// share only: whom it judges, it would have admitted in any mode.
func (c *circuitState) ramps() bool { return c.policy.Breaker.HalfOpen.Ramp != nil }

// probeBegan returns when a probe was admitted, which with http is before its request was sent.
func (c *circuitState) probeBegan(flow probeKey, generation uint32, ev *ledger.Event) breaker.Time {
	if c.circuit.Generation() == generation {
		if began, ok := c.told.admitted[flow]; ok {
			delete(c.told.admitted, flow)
			return began
		}
	}
	return breaker.Time(ev.Began)
}

// touch notes that backends which were learned from traffic have some.
func (c *circuitState) touch(now int64) {
	if c.policy.learned == nil {
		return
	}
	for addr := range c.backends {
		c.policy.learned.Touch(addr, time.Duration(now))
	}
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
func (a *Agent) before(c *circuitState, ev *ledger.Event, buf []breaker.Event) []breaker.Event {
	t := &c.told
	t.check.saw(ev)
	if ev.Index < t.events {
		// It was overtaken by another CPU's, and counted as missing then.
		if t.missing > 0 {
			t.missing--
		}
		t.count(ev)
		return buf
	}
	missing := ev.Index - t.events
	if ev.Ordinal > t.outcomes+missing {
		n := ev.Ordinal - t.outcomes - missing
		total := ev.Duration - time.Duration(ev.At-ev.Sent) - t.duration
		_, buf = c.circuit.RecordSuccesses(breaker.Time(ev.At), fromKernel(ev.Generation), n, max(total, 0), buf)
	}
	t.missing += missing
	t.outcomes, t.events, t.duration = ev.Ordinal+1, ev.Index+1, ev.Duration
	t.count(ev)
	return buf
}

// catchUp reads the totals and tells the circuit of plain successes since its last event. Those before an event that is
// under way come with it.
func (a *Agent) catchUp(c *circuitState, now int64) {
	t := &c.told
	outcomes, events := a.dp.Judged(c.id)
	if outcomes <= t.outcomes || events != t.events {
		return
	}
	p := a.dp.Progress(c.id)
	if p.Judged != outcomes {
		outcomes = p.Judged
		if p.Events != t.events {
			return
		}
	}
	_, a.events = c.circuit.RecordSuccesses(breaker.Time(now), fromKernel(a.dp.Generation(c.id, now)), outcomes-t.outcomes,
		max(p.Duration-t.duration, 0), a.events[:0])
	t.outcomes, t.duration = outcomes, p.Duration
	c.touch(now)
	a.carryOut(c.policy)
}
