package breaker

import "time"

// SetOldestPending sets when the oldest unanswered request of the present generation was sent; ok is false when there is
// none. Each transition clears it. It takes effect at the next call of Advance or of another method that takes the time.
func (c *Circuit) SetOldestPending(sent Time, ok bool) {
	p := c.program()
	if p == nil || len(p.ages) == 0 {
		return
	}
	switch {
	case !ok:
		c.pendingKnown, c.pendingNext = false, 0
	case c.pendingKnown && c.pending == sent:
		return
	default:
		younger := c.pendingKnown && sent > c.pending
		c.pending, c.pendingKnown, c.pendingNext = sent, true, 0
		// The former, older request has reached these ages before: trippers have run for them.
		for younger && c.pendingNext < len(p.ages) && later(sent, p.ages[c.pendingNext]) <= c.group.now {
			c.pendingNext++
		}
	}
	c.schedule()
}

// pendingDue returns when the oldest request reaches the next age of a pendingAge.
func (c *Circuit) pendingDue() Time {
	p := c.program()
	if p == nil || !c.pendingKnown || c.pendingNext >= len(p.ages) {
		return Never
	}
	return later(c.pending, p.ages[c.pendingNext])
}

// pendingReached runs the trippers because the oldest request has reached an age.
func (c *Circuit) pendingReached(at Time, buf []Event) []Event {
	p := c.program()
	if p == nil {
		c.schedule()
		return buf
	}
	for c.pendingNext < len(p.ages) && later(c.pending, p.ages[c.pendingNext]) <= at {
		c.pendingNext++
	}
	c.expire(at)
	c.schedule()
	if p.holds(c, at) {
		buf = c.trip(p, at, buf)
	}
	return buf
}

// schedule computes the next deadline.
func (c *Circuit) schedule() {
	next := c.pendingDue()
	switch {
	case c.state == StateOpen, c.state == StateHalfOpen && c.half == nil:
		next = min(next, c.until)
	case c.half != nil:
		if q, ok := c.half.oldest(); ok {
			next = min(next, later(q.began, c.probeTime()))
		}
		next = min(next, c.yieldDue())
	}
	next = min(next, c.overrides.end())
	if next != c.deadline {
		c.deadline = next
		c.group.reschedule(c)
	}
}

func (c *Circuit) probeTime() time.Duration { return c.group.plan.HalfOpen.Timeout }

// due makes the first transition or check that was due at or before at.
func (c *Circuit) due(at Time, buf []Event) []Event {
	switch {
	case c.overrides.ended(at) != nil:
		return c.overrideEnds(at, buf)
	case (c.state == StateOpen || c.state == StateHalfOpen && c.half == nil) && c.until <= at:
		if c.state == StateOpen {
			return c.enterHalfOpen(at, buf)
		}
		why := because(ReasonRampPassed)
		return c.closeCircuit(at, &why, buf)
	case c.half != nil:
		if q, ok := c.half.oldest(); ok && later(q.began, c.probeTime()) <= at {
			return c.probeTimeout(at, q, buf)
		}
		if c.yieldDue() <= at && at < c.pendingDue() {
			c.yield()
			return buf
		}
	}
	return c.pendingReached(at, buf)
}
