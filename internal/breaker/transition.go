package breaker

import (
	"math"
	"time"
)

// transition changes the state, and is the only place that does. until is the end of the new state, Never if it has none.
func (c *Circuit) transition(at Time, to State, until Time, why *cause) Event {
	from, window := c.state, c.Metric(at)
	c.group.ejectedNow -= c.ejects()
	c.state, c.yielded = to, false
	c.group.ejectedNow += c.ejects()
	c.generation++
	c.since, c.until = at, until
	c.half = nil
	c.pendingKnown, c.pendingNext = false, 0
	c.clearOutcomes()
	if to == StateClosed {
		c.decay, c.decaySeen = 0, false
	}
	if to != StateOpen && to != StateHalfOpen {
		c.ejected = 0
	}
	c.schedule()
	e := c.event(EventTransition, at, from, to, why)
	e.Until, e.Window = until, window
	return e
}

// open opens a circuit that was closed or half-open. One that does not count as ejected closes if the limits do not allow
// the ejection.
func (c *Circuit) open(at Time, why *cause, buf []Event) []Event {
	if c.yielded && !c.group.mayEject() {
		limit := c.group.tooMany(c.group.ejectedNow + 1)
		return c.closeCircuit(at, &limit, buf)
	}
	c.decayBackoff(at)
	if c.ejected == 0 {
		c.group.ejections++
		c.ejected = c.group.ejections
	}
	c.step++
	c.openings++
	wait, jitter := c.group.plan.Open.wait(c.step, c.group.random.Float64)
	e := c.transition(at, StateOpen, later(at, wait), why)
	e.Jitter = jitter
	return append(buf, e)
}

// enterHalfOpen makes the transition at the end of an opening.
func (c *Circuit) enterHalfOpen(at Time, buf []Event) []Event {
	h := &c.group.plan.HalfOpen
	why := because(ReasonDeadline)
	switch {
	case h.Ramp != nil:
		return append(buf, c.transition(at, StateHalfOpen, later(at, h.Ramp.Over), &why))
	case h.Calls == 0:
		return c.closeCircuit(at, &why, buf)
	}
	e := c.transition(at, StateHalfOpen, Never, &why)
	c.half = &halfOpen{asked: at}
	c.schedule()
	return append(buf, e)
}

func (c *Circuit) closeCircuit(at Time, why *cause, buf []Event) []Event {
	return append(buf, c.transition(at, StateClosed, Never, why))
}

// decayBackoff lowers the step by one for each full open.duration spent closed in which a success was seen.
func (c *Circuit) decayBackoff(now Time) {
	if c.step == 0 || c.state != StateClosed {
		return
	}
	period := int64(now.Sub(c.since) / c.group.plan.Open.Duration)
	if period <= c.decay {
		return
	}
	if c.decaySeen {
		c.step--
	}
	c.decay, c.decaySeen = period, false
}

// trip opens the circuit, unless the ejection limits forbid it.
func (c *Circuit) trip(p *program, now Time, buf []Event) []Event {
	why := cause{source: SourceOutcomes}
	why.reason, why.value, why.threshold = p.explain(c, now)
	if c.state == StateClosed && !c.group.mayEject() {
		c.decayBackoff(now)
		c.overflows++
		e := c.event(EventOverflow, now, c.state, StateOpen, &why)
		e.Step++
		return append(buf, e)
	}
	return c.open(now, &why, buf)
}

// wait returns how long the step-th opening lasts and how much of that is jitter.
func (o *Open) wait(step int, draw func() float64) (wait, jitter time.Duration) {
	d := float64(o.Duration)
	switch o.Backoff {
	case BackoffLinear:
		d *= float64(step)
	case BackoffExponential:
		d *= math.Pow(o.Multiplier, float64(step-1))
	}
	d = min(d, math.MaxFloat64) // Inf x 0 is no number
	base := d
	if o.Jitter > 0 {
		d *= 1 + o.Jitter*(2*draw()-1)
	}
	wait = time.Duration(math.Round(min(d, float64(o.Max))))
	return wait, wait - time.Duration(math.Round(min(base, float64(o.Max))))
}

// later is t+d without wrapping.
func later(t Time, d time.Duration) Time {
	if d > 0 && t > Never-Time(d) {
		return Never
	}
	return t + Time(d)
}
