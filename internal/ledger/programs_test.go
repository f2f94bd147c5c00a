package ledger

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// programs is a Kernel in memory that counts as the programs do. It runs in the order in which it is called; between the
// two halves of an outcome (judge, submit) other CPUs may go on.
type programs struct {
	now   int64
	room  int // of the ring, in events
	lost  uint64
	ring  []*Event
	table []enforced
	flows uint16 // ever: each gets a client port of its own
}

// enforced is a circuit as the programs see it.
type enforced struct {
	policy  policyWord
	verdict Verdict
	counts  Progress
	sets    int // calls of SetVerdict
	changes int // those that changed the verdict in force
}

// policyWord is what the programs know of a policy.
type policyWord struct {
	rules breaker.OutcomeRules
	needs Needs
}

func newPrograms(circuits, room int) *programs {
	return &programs{table: make([]enforced, circuits), room: room, now: int64(time.Hour)}
}

func (k *programs) Published(circuit int) Verdict { return k.table[circuit].verdict }

func (k *programs) SetVerdict(circuit int, v Verdict) (anew bool) {
	c := &k.table[circuit]
	have := c.verdict
	c.sets++
	if v == have {
		return false
	}
	c.changes++
	c.verdict = v
	if v.Kind == have.Kind && v.Generation == have.Generation ||
		have.Kind == Open && v.Kind == Closed && v.Generation == have.Generation+1 {
		return false
	}
	c.counts = Progress{}
	return true
}

func (k *programs) Progress(circuit int) Progress { return k.table[circuit].counts }

func (k *programs) Judged(circuit int) (outcomes, events uint64) {
	c := &k.table[circuit].counts
	return c.Judged, c.Events
}

func (k *programs) LostEvents() uint64 { return k.lost }
func (k *programs) EventsWaiting() int { return len(k.ring) }

// generation is the one that the programs judge in, as they count.
func (c *enforced) generation(now int64) uint32 {
	if c.verdict.HalfOpen(now) {
		return c.verdict.Generation + 1
	}
	return c.verdict.Generation
}

// call is a request that was admitted.
type call struct {
	circuit    int
	generation uint32 // 0: it is not judged
	permit     bool
	admitted   int64
	sent       int64 // >= admitted
	client     netip.AddrPort
}

var backends = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")}

// admit asks for a request to a circuit. share is drawn for a ramp.
func (k *programs) admit(circuit int, share float64) (call, bool) {
	c := &k.table[circuit]
	v := &c.verdict
	k.flows++
	r := call{circuit: circuit, admitted: k.now, sent: k.now, client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), k.flows)}
	switch {
	case v.Kind == Closed:
		r.generation = v.Generation
		return r, true
	case v.Kind == Disabled:
		return r, true
	case v.Kind == ForcedOpen || !v.HalfOpen(k.now):
		return r, v.Monitor
	case v.RampOver > 0:
		ramp := breaker.Ramp{Over: v.RampOver, From: v.RampFrom, To: v.RampTo}
		if share < ramp.Share(time.Duration(k.now-v.Until)) {
			r.generation = c.generation(k.now)
			return r, true
		}
		return r, v.Monitor
	case v.Calls == 0:
		r.generation = c.generation(k.now)
		return r, true
	case c.counts.Permits < v.Calls && c.counts.InFlight < v.Concurrent:
		c.counts.Permits++
		c.counts.InFlight++
		r.generation, r.permit = c.generation(k.now), true
		k.submit(k.permitEvent(&r, EventProbe))
		return r, true
	}
	return r, v.Monitor
}

func (k *programs) permitEvent(r *call, kind EventKind) *Event {
	return &Event{Kind: kind, Permit: true, Circuit: r.circuit, Generation: r.generation, At: k.now, Began: r.admitted, Sent: r.admitted,
		Client: r.client, Backend: backends[r.circuit]}
}

// abandon returns the permit of a request that was never sent.
func (k *programs) abandon(r *call) *Event {
	c := &k.table[r.circuit]
	if !r.permit || r.generation != c.generation(k.now) {
		return nil
	}
	c.counts.Permits--
	c.counts.InFlight--
	return k.permitEvent(r, EventReturn)
}

// judge counts how a request ended. It returns the outcome, and whether it needs an event.
func (k *programs) judge(r *call, result breaker.Result) (ev *Event, sent bool) {
	c := &k.table[r.circuit]
	ev = &Event{Kind: EventOutcome, Permit: r.permit, Result: uint16(result), Circuit: r.circuit, Generation: r.generation,
		At: k.now, Began: r.sent, Sent: r.sent, Client: r.client, Backend: backends[r.circuit]}
	v := &c.verdict
	current := r.generation != 0 && r.generation == c.generation(k.now)
	ev.Judged = current && !c.policy.rules.Ignores(result) && (v.Kind == Closed || v.HalfOpen(k.now))
	ev.Failure = c.policy.rules.Fails(result)
	latency := time.Duration(k.now - r.sent)
	ev.Slow = c.policy.needs.Slow > 0 && latency > c.policy.needs.Slow
	if ev.Judged {
		n := &c.counts
		sent = ev.Failure || ev.Slow || r.permit || v.Kind != Closed || c.policy.needs.Every
		n.Duration += latency
		ev.Ordinal, ev.Index, ev.Duration = n.Judged, n.Events, n.Duration
		n.Judged++
		if sent {
			n.Events++
		}
		if ev.Failure {
			n.Failures++
		} else if ev.Slow {
			n.Slow++
		}
	}
	if current && r.permit {
		c.counts.InFlight--
		if !ev.Judged {
			c.counts.Permits--
		}
		sent = true
	}
	return ev, sent
}

// submit puts an event into the ring, if there is room.
func (k *programs) submit(ev *Event) bool {
	if len(k.ring) >= k.room {
		k.lost++
		return false
	}
	k.ring = append(k.ring, ev)
	return true
}

// next takes the oldest event out of the ring.
func (k *programs) next() *Event {
	ev := k.ring[0]
	k.ring = k.ring[1:]
	return ev
}

func (c *enforced) String() string {
	return fmt.Sprintf("verdict %+v, counts %+v", c.verdict, c.counts)
}
