package breaker

import "math"

// Update puts new settings in force. Circuits keep their state, deadline and step; they keep their windows if the new
// settings would have recorded the same, and a half-open period continues unless the new settings decide it. Invalid
// settings, and another scope (ErrScope), are errors that change nothing.
func (g *Group) Update(s Settings, now Time, buf []Event) ([]Event, error) {
	if err := s.Validate(); err != nil {
		return buf, err
	}
	if s.Scope != g.plan.Scope {
		return buf, ErrScope
	}
	now, buf = g.clock(now, buf)
	before := g.plan
	g.plan = newPlan(s)
	same := g.plan.sameMemory(before)
	for _, c := range g.circuits {
		if !same {
			c.resetWindow()
		}
		if before.Open.Duration != s.Open.Duration && c.state == StateClosed {
			c.decay, c.decaySeen = int64(now.Sub(c.since)/s.Open.Duration), false
		}
		buf = c.reloaded(now, before, buf)
	}
	g.recount()
	return g.enforceLimits(now, buf), nil
}

// resetWindow gives the circuit an empty window of the shape that is now in force.
func (c *Circuit) resetWindow() {
	c.window = window{end: math.MinInt64}
	c.streak, c.streaks, c.failing = 0, nil, nil
	if n := len(c.group.plan.streaks); n > 0 {
		c.streaks = make([]uint64, n)
	}
}

// reloaded applies new settings to a circuit.
func (c *Circuit) reloaded(now Time, before *plan, buf []Event) []Event {
	p := c.group.plan
	why := because(ReasonReload)
	why.source = SourceMode
	if c.decides().Source == SourceMode && before.Mode != p.Mode {
		buf = c.applyMode(now, &why, buf)
	}
	if c.state == StateHalfOpen && !p.sameProbing(before) {
		buf = c.continueProbing(now, before, buf)
	}
	c.pendingNext = 0
	if ages := c.program(); ages == nil || len(ages.ages) == 0 {
		c.pendingKnown = false
	}
	c.schedule()
	return buf
}

// continueProbing continues a half-open period under new settings: it ends one that they decide, and restarts one of the other
// kind.
func (c *Circuit) continueProbing(now Time, before *plan, buf []Event) []Event {
	h := &c.group.plan.HalfOpen
	why := because(ReasonReload)
	switch {
	case h.Ramp != nil:
		start := c.since
		if before.HalfOpen.Ramp == nil {
			start = now
		}
		c.half, c.until = nil, later(start, h.Ramp.Over)
		c.since = start
		c.countAsEjected()
	case h.Calls == 0:
		return c.closeCircuit(now, &why, buf)
	case c.half == nil:
		c.half, c.until = &halfOpen{asked: now}, Never
	case c.half.Bad > h.Tolerate:
		return c.open(now, &why, buf)
	case c.half.Finished >= h.Calls:
		return c.closeCircuit(now, &why, buf)
	}
	return buf
}
