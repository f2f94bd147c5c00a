package breaker

// Impose overrides the policy's mode for this circuit until o.Until; Since is set to now. It replaces the override of the
// same source. An override of a higher source takes precedence. Until must be Never or in the future; one that has passed
// ends at once.
func (c *Circuit) Impose(now Time, o Override, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	o.Since = now
	c.overrides.put(o)
	why := by(o.Who, o.Why)
	why.source = o.Source
	buf = c.applyMode(now, &why, buf)
	c.schedule()
	return buf
}

// Auto removes an operator's override. A circuit that it had forced open or disabled starts again as closed.
func (c *Circuit) Auto(now Time, who, reason string, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	if !c.overrides.take(SourceOperator) {
		return buf
	}
	why := by(who, reason)
	buf = c.applyMode(now, &why, buf)
	c.schedule()
	return buf
}

// Close closes a circuit that outcomes have opened, on an operator's behalf. It changes no other state. In each state it
// sets the step of the backoff to 0: the next opening is a first one.
func (c *Circuit) Close(now Time, who, reason string, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	c.step = 0
	if c.state != StateOpen && c.state != StateHalfOpen {
		return buf
	}
	why := by(who, reason)
	return c.closeCircuit(now, &why, buf)
}

func (c *Circuit) overrideEnds(at Time, buf []Event) []Event {
	o := *c.overrides.ended(at)
	c.overrides.take(o.Source)
	why := because(ReasonDeadline)
	why.source, why.who, why.why = o.Source, o.Who, o.Why
	buf = c.applyMode(at, &why, buf)
	c.schedule()
	return buf
}

// applyMode makes the transition that the mode in force requires, if any.
func (c *Circuit) applyMode(at Time, why *cause, buf []Event) []Event {
	o := c.decides()
	want, until := StateClosed, Never
	switch o.Mode {
	case ModeForcedOpen:
		want, until = StateForcedOpen, o.Until
	case ModeDisabled:
		want, until = StateDisabled, o.Until
	default:
		if c.state == StateOpen || c.state == StateHalfOpen {
			want = c.state
		}
	}
	if want != c.state {
		return append(buf, c.transition(at, want, until, why))
	}
	if want != StateOpen && want != StateHalfOpen {
		c.until = until
	}
	e := c.event(EventOverride, at, c.state, c.state, why)
	e.Until = o.Until
	return append(buf, e)
}
