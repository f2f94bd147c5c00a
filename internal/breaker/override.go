package breaker

// Impose puts a mode of an operator's in the place of the policy's, for this circuit, until o.Until; Since is set to now.
// It replaces the one before. Until must be Never or a moment to come; one that has passed ends at once.
func (c *Circuit) Impose(now Time, o Override, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	o.Since = now
	c.override = &o
	why := because(ReasonManual)
	why.who, why.why = o.Who, o.Why
	buf = c.applyMode(now, &why, buf)
	c.schedule()
	return buf
}

// Auto takes an operator's mode back. A circuit that it had forced open or disabled starts anew as closed.
func (c *Circuit) Auto(now Time, who, reason string, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	if c.override == nil {
		return buf
	}
	c.override = nil
	why := because(ReasonManual)
	why.who, why.why = who, reason
	buf = c.applyMode(now, &why, buf)
	c.schedule()
	return buf
}

// Close closes by hand a circuit that outcomes have opened. It changes no other state. In each state it sets the step of
// the backoff to 0: the next opening is a first one.
func (c *Circuit) Close(now Time, who, reason string, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	c.step = 0
	if c.state != StateOpen && c.state != StateHalfOpen {
		return buf
	}
	why := because(ReasonManual)
	why.who, why.why = who, reason
	return c.closeCircuit(now, &why, buf)
}

func (c *Circuit) overrideEnds(at Time, buf []Event) []Event {
	why := because(ReasonDeadline)
	why.who, why.why = c.override.Who, c.override.Why
	c.override = nil
	buf = c.applyMode(at, &why, buf)
	c.schedule()
	return buf
}

// applyMode brings the state in line with the mode in force.
func (c *Circuit) applyMode(at Time, why *cause, buf []Event) []Event {
	want, until := StateClosed, Never
	switch c.Mode() {
	case ModeForcedOpen:
		want = StateForcedOpen
	case ModeDisabled:
		want = StateDisabled
	default:
		if c.state == StateOpen || c.state == StateHalfOpen {
			want = c.state
		}
	}
	if want == StateForcedOpen || want == StateDisabled {
		if c.override != nil {
			until = c.override.Until
		}
	}
	if want != c.state {
		return append(buf, c.move(at, want, until, why))
	}
	if want != StateOpen && want != StateHalfOpen {
		c.until = until
	}
	e := c.event(EventOverride, at, c.state, c.state, why)
	if c.override != nil {
		e.Until = c.override.Until
	}
	return append(buf, e)
}
