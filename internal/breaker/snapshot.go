package breaker

// Snapshot returns the part of the circuit's state that must survive a restart.
func (c *Circuit) Snapshot() Snapshot {
	s := Snapshot{
		State: c.state, Generation: c.generation, Step: c.step, Since: c.since, Until: c.until, Ejected: c.ejected,
		Openings: c.openings, Overflows: c.overflows, DecayPeriod: c.decay, DecaySeen: c.decaySeen, Yielded: c.yielded,
	}
	if i, ok := c.overrides.find(SourceOperator); ok {
		s.Override, s.Overridden = c.overrides[i], true
	}
	return s
}

// Restore adds a backend and restores its circuit from the snapshot. Transitions that were due since are made at the next
// call that carries a time. A half-open period with probes starts again, in the next generation. If the mode in force
// requires another state, the state changes with the reason reload, for which an event is appended. Ejection limits do not
// apply. A circuit that exists already is replaced, too; with scope: policy the last snapshot counts.
func (g *Group) Restore(backend string, s Snapshot, now Time, buf []Event) (*Circuit, []Event) {
	now, buf = g.clock(now, buf)
	c := g.Add(backend, now)
	g.ejectedNow -= c.ejects()
	c.state, c.generation, c.step, c.since, c.until = s.State, s.Generation, s.Step, s.Since, s.Until
	c.openings, c.overflows, c.decay, c.decaySeen = s.Openings, s.Overflows, s.DecayPeriod, s.DecaySeen
	c.ejected, c.half, c.overrides = s.Ejected, nil, nil
	c.yielded = s.Yielded && s.State == StateHalfOpen
	g.ejectedNow += c.ejects()
	g.ejections = max(g.ejections, s.Ejected)
	c.pendingKnown, c.pendingNext = false, 0
	c.clearOutcomes()
	if s.Overridden {
		c.overrides.put(s.Override)
	}
	switch p := g.plan; {
	case c.state == StateHalfOpen && p.probes():
		c.generation++
		c.half, c.until = &halfOpen{asked: now}, Never
	case c.state == StateHalfOpen && c.until == Never:
		c.generation++
		c.since, c.until = now, later(now, p.HalfOpen.Ramp.Over)
	case c.state >= states:
		c.state = StateClosed
	}
	if !c.asMode() {
		why := because(ReasonReload)
		why.source = SourceMode
		buf = c.applyMode(now, &why, buf)
	}
	c.schedule()
	return c, buf
}

// asMode reports whether the state is one that the mode in force allows.
func (c *Circuit) asMode() bool {
	switch c.Mode() {
	case ModeForcedOpen:
		return c.state == StateForcedOpen
	case ModeDisabled:
		return c.state == StateDisabled
	}
	return c.state != StateForcedOpen && c.state != StateDisabled
}
