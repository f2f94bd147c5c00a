package ledger

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Account is one circuit: its breaker, and what it has been given of the counts of its verdict.
type Account struct {
	group       *Group
	place       int // index in the kernel's table
	circuit     *breaker.Circuit
	tally       tally
	probes      probes
	lastOutcome int64
}

// Place returns the circuit's index in the kernel's table.
func (a *Account) Place() int { return a.place }

// LastOutcome returns when the programs last reported an outcome of the circuit, 0 if never.
func (a *Account) LastOutcome() int64 { return a.lastOutcome }

// State returns the circuit's state. See breaker.Circuit.State, and so on for the next three.
func (a *Account) State() breaker.State { return a.circuit.State() }

// Status returns what the circuit is doing.
func (a *Account) Status() breaker.Status { return a.circuit.Status() }

// Snapshot returns what of the circuit must survive a restart.
func (a *Account) Snapshot() breaker.Snapshot { return a.circuit.Snapshot() }

// Metric returns what the window says at now.
func (a *Account) Metric(now breaker.Time) breaker.Metric { return a.circuit.Metric(now) }

// SetOldestPending says when the oldest unanswered request of the circuit was sent; what follows from it happens at the
// next Book.Advance.
func (a *Account) SetOldestPending(since breaker.Time, ok bool) {
	a.circuit.SetOldestPending(since, ok)
}

// Impose puts an operator's mode in the place of the policy's.
func (a *Account) Impose(now breaker.Time, o breaker.Override) {
	a.group.events = a.circuit.Impose(a.group.clock(now), o, a.group.events)
	a.carryOut()
}

// Auto takes an operator's mode back.
func (a *Account) Auto(now breaker.Time, who, why string) {
	a.group.events = a.circuit.Auto(a.group.clock(now), who, why, a.group.events)
	a.carryOut()
}

// Close closes by hand a circuit that outcomes have opened, and sets the step of its backoff to 0.
func (a *Account) Close(now breaker.Time, who, why string) {
	a.group.events = a.circuit.Close(a.group.clock(now), who, why, a.group.events)
	a.carryOut()
}

// apply hands an event to the circuit.
func (a *Account) apply(ev *Event) {
	at, generation := breaker.Time(ev.At), fromKernel(ev.Generation)
	g, flow := a.group, probeKey{ev.Client, ev.Backend}
	switch ev.Kind {
	case EventProbe:
		g.events = a.circuit.Began(breaker.Time(ev.Began), generation, g.events)
		a.probes.admit(a.circuit, flow, generation, breaker.Time(ev.Began))
	case EventReturn:
		began, known := a.probes.end(a.circuit, flow, generation, breaker.Time(ev.Began))
		a.unused(known, func() { g.events = a.circuit.Release(at, generation, began, g.events) })
	case EventOutcome:
		a.outcome(ev, at, generation, flow)
		return
	}
	g.carryOut()
}

// outcome hands the outcome of a request or of a connection attempt to the circuit.
func (a *Account) outcome(ev *Event, at breaker.Time, generation uint32, flow probeKey) {
	g := a.group
	s := a.circuit.Status()
	if ev.Judged && generation == effectiveGeneration(&s, at) {
		if ev.Index < a.tally.past {
			return
		}
		n, total := a.tally.take(ev)
		_, g.events = a.circuit.RecordSuccesses(at, generation, n, total, g.events)
	}
	began, known := breaker.Time(ev.Began), false
	if ev.Permit {
		began, known = a.probes.end(a.circuit, flow, generation, began)
	}
	record := func() {
		_, g.events = a.circuit.Record(at, &breaker.Outcome{
			Result: breaker.Result(ev.Result), HasLatency: true, Latency: time.Duration(ev.At - ev.Sent),
			Permit: ev.Permit || ev.Judged && a.ramps(), Generation: generation, Began: began, Client: ev.Client.Addr(),
		}, g.events)
	}
	if ev.Permit && !ev.Judged {
		a.unused(known, record)
	} else {
		record()
	}
	a.lastOutcome = ev.At
	g.carryOut()
}

// ramps reports whether half-open admits a share instead of probes. The programs give its generation to clients within the
// share only: whom they judge is admitted in any mode.
func (a *Account) ramps() bool { return a.group.breaker.Settings().HalfOpen.Ramp != nil }

// carryOut publishes the circuit's verdict, which may have changed without an event, and carries out the group's events.
func (a *Account) carryOut() {
	a.publish()
	a.group.carryOut()
}

// publish puts the circuit's verdict in force.
func (a *Account) publish() {
	s, half := a.circuit.Status(), a.group.breaker.Settings().HalfOpen
	v := verdictOf(&s, &half)
	if a.circuit.Probing() {
		v.Calls -= a.probes.late
		v.Concurrent += a.probes.vanished
	}
	if a.group.book.kernel.SetVerdict(a.place, v) {
		a.tally, a.probes = tally{}, probes{}
	}
}
