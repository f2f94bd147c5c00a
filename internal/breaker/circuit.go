package breaker

import "math"

// Circuit is the breaker of one backend, or of all backends of a policy with scope: policy. Group.Add makes it.
type Circuit struct {
	group    *Group
	backend  string
	order    uint64 // by creation, among those of the group
	place    int    // in group.circuits
	deadline Time   // when the next transition or check by time alone is due
	heapAt   int    // index in group.due, -1 = not in it

	state      State
	generation uint32
	since      Time
	until      Time // of open, of a ramp, of an override; Never otherwise
	overrides  overrides

	window  window
	streak  uint64   // failures in a row
	streaks []uint64 // the same for the classes of plan.streaks
	failing clients
	shares  []uint64 // in group.fields

	pending      Time // when the oldest unanswered request of this generation was sent
	pendingKnown bool
	pendingNext  int // index of the next of program.ages to be reached

	half    *halfOpen // in half-open with probes
	yielded bool      // half-open: it does not count as ejected any more

	step      int
	decay     int64 // full open.durations spent closed that have been counted
	decaySeen bool  // a success was seen in the one that runs
	ejected   uint64
	openings  uint64
	overflows uint64
}

// Backend returns the id that the circuit was added with, or "*" with scope: policy.
func (c *Circuit) Backend() string { return c.backend }

// Group returns the group that the circuit belongs to.
func (c *Circuit) Group() *Group { return c.group }

// Generation returns the number of transitions so far, modulo 2^32.
func (c *Circuit) Generation() uint32 { return c.generation }

// State returns the state as of the last call that carried a time.
func (c *Circuit) State() State { return c.state }

// Mode returns the mode in force: the override's, else the policy's.
func (c *Circuit) Mode() Mode {
	if len(c.overrides) > 0 {
		return c.overrides[0].Mode
	}
	return c.group.plan.Mode
}

// Metric returns the content of the window at now. If now is earlier than a time seen before, that one is used.
func (c *Circuit) Metric(now Time) Metric {
	c.expire(max(now, c.group.now))
	return c.window.metric()
}

// Status returns the state of the circuit as of the last call that carried a time.
func (c *Circuit) Status() Status {
	c.decayBackoff(c.group.now)
	s := Status{
		State: c.state, Mode: c.Mode(), Generation: c.generation, Step: c.step, Since: c.since, Until: c.until,
		Openings: c.openings, Overflows: c.overflows, Yielded: c.yielded,
	}
	if c.half != nil {
		s.Probes = c.half.Probes
	}
	if len(c.overrides) > 0 {
		s.Override, s.Overridden = c.overrides[0], true
	}
	return s
}

// Probing reports whether the circuit is half-open and grants permits, one for each probe.
func (c *Circuit) Probing() bool { return c.half != nil }

// program returns the trippers that run in the present state, nil when none do.
func (c *Circuit) program() *program {
	p := c.group.plan
	switch {
	case c.state == StateClosed || c.state == StateHalfOpen && !p.probes():
		return &p.closed
	case c.state == StateHalfOpen:
		return &p.halfOpen
	}
	return nil
}

func (c *Circuit) streakOf(slot int16) uint64 {
	if slot < 0 {
		return c.streak
	}
	return c.streaks[slot]
}

func (c *Circuit) failingClients() int { return c.failing.since(c.clientHorizon()) }

// clientHorizon is the bucket or ordinal up to which a failure has left the window.
func (c *Circuit) clientHorizon() int64 {
	shape := &c.group.plan.shape
	if shape.kind == WindowTime {
		return c.window.cur - shape.buckets
	}
	return int64(c.window.seq) - int64(shape.size)
}

// clearOutcomes clears the recorded outcomes.
func (c *Circuit) clearOutcomes() {
	c.window.clear()
	c.streak = 0
	clear(c.streaks)
	c.failing = c.failing[:0]
	c.count()
}

// expire removes outcomes that are too old at now.
func (c *Circuit) expire(now Time) {
	c.window.expire(&c.group.plan.shape, now)
	c.count()
}

// cause is the cause of an event.
type cause struct {
	reason           Reason
	source           Source
	value, threshold float64 // NaN: none
	who, why         string
}

func because(r Reason) cause {
	return cause{reason: r, source: SourceOutcomes, value: math.NaN(), threshold: math.NaN()}
}

// by is the cause of an operator's action.
func by(who, reason string) cause {
	why := because(ReasonManual)
	why.source, why.who, why.why = SourceOperator, who, reason
	return why
}

func (c *Circuit) event(kind EventKind, at Time, from, to State, why *cause) Event {
	e := Event{
		Kind: kind, From: from, To: to, Reason: why.reason, Source: why.source, At: at, Until: Never, Step: c.step, Generation: c.generation,
		Mode: c.Mode(), Circuit: c, Group: c.group.name, Backend: c.backend, Who: why.who, Why: why.why, Window: c.Metric(at),
	}
	if !math.IsNaN(why.value) {
		e.HasNumbers, e.Value, e.Threshold = true, why.value, why.threshold
	}
	return e
}
