package ledger

import (
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// probes is what an account knows of the permits of a half-open period. It begins anew with every verdict whose counts do.
type probes struct {
	admitted map[probeKey]breaker.Time
	vanished uint32 // probes that have timed out in the circuit, but hold the programs' permits
	late     uint32 // of those that had, permits that the programs took back: the circuit has used them

	doubt Progress // which did not fit at the latest Advance
	since int64    // when it was first seen
}

// probeKey names the connection of a probe: each holds one permit at most.
type probeKey struct{ client, backend netip.AddrPort }

func (p *probes) admit(c *breaker.Circuit, flow probeKey, generation uint32, began breaker.Time) {
	if !c.Probing() || c.Generation() != generation {
		return
	}
	if p.admitted == nil {
		p.admitted = map[probeKey]breaker.Time{}
	}
	p.admitted[flow] = began
}

// end returns when the probe of a connection was admitted, and whether that is known. With http it is before its request
// was sent, which is what its outcome says. Of an unknown probe it returns began.
func (p *probes) end(c *breaker.Circuit, flow probeKey, generation uint32, began breaker.Time) (breaker.Time, bool) {
	if c.Generation() == generation {
		if at, ok := p.admitted[flow]; ok {
			delete(p.admitted, flow)
			return at, true
		}
	}
	return began, false
}

// unused gives a permit back by f, which hands the circuit the end of a probe that is not judged. The programs have taken
// it back. A circuit keeps it as used if the probe has timed out: the programs must then hand out one less.
func (a *Account) unused(known bool, f func()) {
	used := a.circuit.Status().Probes.Used
	f()
	if known && a.circuit.Probing() && a.circuit.Status().Probes.Used == used {
		a.probes.late++
		a.publish()
	}
}

// settled is how long counts must not change before no event of them is under way; where no full ring explains what is
// missing, doubtful. Between counting an outcome and submitting its event a program can only be held up by the hypervisor.
const (
	settled  = 50 * time.Millisecond
	doubtful = 500 * time.Millisecond
)

// checkProbes compares what the circuit knows of its probes with the programs' counts. Counts that do not fit, with an
// empty ring and for a while in which nothing happened, mean that events were lost.
func (a *Account) checkProbes(now int64, drained bool) (Repair, bool) {
	t, q := &a.tally, &a.probes
	s := a.circuit.Status()
	p := a.group.book.kernel.Progress(a.place)
	permits := int(p.Permits + q.late)
	fits := permits == s.Probes.Used && p.Events == t.received()
	if fits && int(p.InFlight) == s.Probes.InFlight+int(q.vanished) {
		q.doubt = Progress{}
		return Repair{}, false
	}
	if !drained || p != q.doubt {
		q.doubt, q.since = p, now
		return Repair{}, false
	}
	losses, reported := &a.group.book.losses, a.group.book.kernel.LostEvents()
	if wait := losses.wait(reported); now-q.since < int64(settled) || !fits && now-q.since < int64(wait) {
		return Repair{}, false
	}
	q.doubt = Progress{}
	if fits {
		// Probes that have timed out, but may be out there, must not keep others from being sent.
		q.vanished = uint32(max(int(p.InFlight)-s.Probes.InFlight, 0))
		a.publish()
		return Repair{}, false
	}
	lost := monus(p.Events, t.received())
	r := Repair{
		Account: a, Events: lost + distance(permits, s.Probes.Used), Lost: lost,
		Probes: true, Permits: permits, KnownPermits: s.Probes.Used,
	}
	r.Failures = min(lost, monus(p.Failures, t.failures))
	r.Slow = min(lost-r.Failures, monus(p.Slow, t.slow))
	r.Unexplained = losses.explain(reported, r.Events)
	t.outcomes, t.events, t.duration, t.missing, t.past = p.Judged, p.Events, p.Duration, 0, p.Events
	t.failures, t.slow = p.Failures, p.Slow
	a.group.events = a.circuit.Reconcile(breaker.Time(now), s.Generation, permits, breaker.Lost{
		Failures: int(r.Failures), Slow: int(r.Slow), Plain: int(lost - r.Failures - r.Slow),
	}, a.group.events)
	a.group.carryOut()
	return r, true
}

func distance(a, b int) uint64 { return uint64(max(a-b, b-a)) }
