package breaker

import (
	"math/bits"
	"time"
)

// Results of outcomes of which only the number is known: one that failed or was slow has an unknown result, a plain success
// belongs to no class of a streak.
const (
	resultLost  = ResultNone
	resultPlain = MaxResult + 1
)

// Record judges one outcome that ended at now, and appends the events that it causes.
func (c *Circuit) Record(now Time, o *Outcome, buf []Event) (Judgement, []Event) {
	g := c.group
	if now < g.now {
		now = g.now
	} else if now < g.next {
		g.now = now
	} else {
		now, buf = g.clock(now, buf)
	}
	p := g.plan
	kind := p.class(o.Result)
	if o.Generation != c.generation {
		return Stale, buf
	}
	if c.state != StateClosed {
		return c.recordOther(now, o, kind, buf)
	}
	if kind&classIgnored != 0 {
		return Ignored, buf
	}
	c.learn(now, o, p.sample(o, kind), 1)
	if p.closed.holds(c, now) {
		buf = c.trip(&p.closed, now, buf)
	}
	return Judged, buf
}

// recordOther judges an outcome of this generation in a state that is not closed.
func (c *Circuit) recordOther(now Time, o *Outcome, kind class, buf []Event) (Judgement, []Event) {
	p := c.group.plan
	switch {
	case c.state != StateHalfOpen:
		return NotJudging, buf
	case c.half != nil:
		return c.recordProbe(now, o, kind, buf)
	case kind&classIgnored != 0:
		return Ignored, buf
	case !o.Permit && c.Mode() == ModeMonitor:
		return NoPermit, buf
	}
	c.learn(now, o, p.sample(o, kind), 1)
	if p.closed.holds(c, now) {
		buf = c.trip(&p.closed, now, buf)
	}
	return Judged, buf
}

// learn adds n equal outcomes to the window, the streaks and the clients.
func (c *Circuit) learn(now Time, o *Outcome, s sample, n uint64) {
	p := c.group.plan
	c.window.add(&p.shape, now, s, n)
	if len(c.shares) > 0 {
		c.count()
	}
	if s.flags&sampleFailure == 0 {
		c.streak = 0
		if c.step > 0 {
			c.decayBackoff(now)
			c.decaySeen = true
		}
	} else {
		c.streak += n
		if p.clients > 0 {
			c.learnClient(o)
		}
	}
	if len(c.streaks) > 0 && o.Result != resultLost {
		c.learnStreaks(o.Result, n)
	}
}

func (c *Circuit) learnClient(o *Outcome) {
	at := c.window.cur
	if c.group.plan.shape.kind == WindowCount {
		at = int64(c.window.seq)
	}
	c.failing.add(o.Client, at, c.group.plan.clients)
}

func (c *Circuit) learnStreaks(r Result, n uint64) {
	for i := range c.streaks {
		if c.group.plan.streaks[i].Has(r) {
			c.streaks[i] += n
		} else {
			c.streaks[i] = 0
		}
	}
}

// RecordN judges up to n outcomes equal to o that ended at now, as n calls of Record would, but at a cost that does not
// grow with n. It stops after an outcome that causes an event; rest is the number of the remaining ones.
func (c *Circuit) RecordN(now Time, o *Outcome, n uint64, buf []Event) (rest uint64, j Judgement, after []Event) {
	if n == 0 {
		return 0, Ignored, buf
	}
	now, buf = c.group.clock(now, buf)
	if n == 1 || c.half != nil && c.generation == o.Generation {
		j, buf = c.Record(now, o, buf)
		return n - 1, j, buf
	}
	kind := c.group.plan.class(o.Result)
	if kind&classIgnored != 0 || !c.judges(o) {
		j, buf = c.Record(now, o, buf) // changes nothing, so n times nothing
		return 0, j, buf
	}
	rest, buf = c.recordEqual(now, o, c.group.plan.sample(o, kind), n, buf)
	return rest, Judged, buf
}

// judges reports whether an outcome of a class that is not ignored would be judged, in any state but half-open with probes.
func (c *Circuit) judges(o *Outcome) bool {
	return o.Generation == c.generation && (c.state == StateClosed ||
		c.state == StateHalfOpen && (o.Permit || c.Mode() != ModeMonitor))
}

// recordEqual judges n outcomes, in steps over which everything that trippers look at changes evenly.
func (c *Circuit) recordEqual(now Time, o *Outcome, s sample, n uint64, buf []Event) (rest uint64, after []Event) {
	p := c.program()
	for first := true; n > 0; first = false {
		k, tripped := uint64(1), false
		if first {
			c.learn(now, o, s, 1)
			tripped = p.holds(c, now)
		} else {
			t := newTrial(c, p, now, o, s)
			k, tripped = t.first(t.even(n))
			c.learn(now, o, s, k)
		}
		n -= k
		if tripped {
			return n, c.trip(p, now, buf)
		}
	}
	return 0, buf
}

// RecordSuccesses judges n plain successes (neither failed nor slow, nor of a class of a streak) that were sent in one
// generation and are known only by their number and the sum of their latencies (negative: not known), as n calls of Record
// would. A trip may be completed by any of them; those after it are not judged. Of the overflows that they cause only the
// first is appended, all are counted.
func (c *Circuit) RecordSuccesses(now Time, generation uint32, n uint64, total time.Duration, buf []Event) (Judgement, []Event) {
	if n == 0 {
		return Ignored, buf
	}
	o := Outcome{Result: resultPlain, Generation: generation, Permit: true}
	if total < 0 {
		return c.recordKnown(now, &o, sample{}, n, buf)
	}
	mean, longer := bits.Div64(0, uint64(total), n)
	s := sample{flags: sampleTimed, latency: mean + 1}
	j, buf := c.recordKnown(now, &o, s, longer, buf)
	s.latency = mean
	if k, after := c.recordKnown(now, &o, s, n-longer, buf); k == Judged || longer == 0 {
		return k, after
	}
	return j, buf
}

// RecordLost judges outcomes of one generation that are known by number only: failures of an unknown class, and
// successes that took longer than the smallest slow threshold of the policy. Their latency is not known, so they are
// left out of the mean and of other thresholds; they neither lengthen nor end a streak of certain classes, and come from
// no client.
func (c *Circuit) RecordLost(now Time, generation uint32, failures, slow uint64, buf []Event) (Judgement, []Event) {
	o := Outcome{Result: resultLost, Generation: generation, Permit: true}
	j, buf := c.recordKnown(now, &o, sample{flags: sampleFailure}, failures, buf)
	k, buf := c.recordKnown(now, &o, sample{flags: c.group.plan.surely}, slow, buf)
	if failures == 0 {
		return k, buf
	}
	return j, buf
}

// recordKnown judges n outcomes whose class is known. In half-open with probes they had no permit.
func (c *Circuit) recordKnown(now Time, o *Outcome, s sample, n uint64, buf []Event) (Judgement, []Event) {
	now, buf = c.group.clock(now, buf)
	switch {
	case n == 0:
		return Ignored, buf
	case o.Generation != c.generation:
		return Stale, buf
	case c.half != nil:
		return NoPermit, buf
	case !c.judges(o):
		return NotJudging, buf
	}
	reported := false
	for n > 0 && o.Generation == c.generation {
		had := len(buf)
		n, buf = c.recordEqual(now, o, s, n, buf)
		if len(buf) > had && buf[had].Kind == EventOverflow {
			if reported {
				buf = buf[:had]
			}
			reported = true
		}
	}
	return Judged, buf
}
