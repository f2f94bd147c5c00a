package breaker

import (
	"slices"
	"time"
)

// halfOpen holds the probes of a half-open period.
type halfOpen struct {
	Probes
	list  []probe // not finished, or timed out; by time of admission
	asked Time    // when the latest probe was admitted, or the period began
}

type probe struct {
	began    Time
	timedOut bool
	guessed  bool // its admission was not reported: its begin is not known
}

// free reports whether one more probe may be sent.
func (h *halfOpen) free(s *HalfOpen) bool { return h.Used < s.Calls && h.InFlight < s.Concurrent }

// admit takes a permit for a request sent at began.
func (h *halfOpen) admit(began Time) *probe {
	h.Used++
	h.InFlight++
	i := len(h.list)
	h.list = append(h.list, probe{began: began})
	for ; i > 0 && h.list[i-1].began > began; i-- {
		h.list[i], h.list[i-1] = h.list[i-1], h.list[i]
	}
	return &h.list[i]
}

// admit takes a permit for a request sent at began.
func (c *Circuit) admit(began Time) *probe {
	c.half.asked = max(c.half.asked, began)
	c.countAsEjected()
	return c.half.admit(began)
}

// find returns the index of a probe sent at began, one in flight if there is one; else of a probe whose begin is not known;
// -1 when there is none.
func (h *halfOpen) find(began Time) int {
	found, guess := -1, -1
	for i := range h.list {
		q := &h.list[i]
		switch {
		case q.began == began && !q.timedOut && !q.guessed:
			return i
		case q.began == began && !q.guessed:
			found = i
		case q.guessed && (guess < 0 || h.list[guess].timedOut):
			guess = i
		}
	}
	if found < 0 {
		return guess
	}
	return found
}

func (h *halfOpen) remove(i int) {
	h.list = append(h.list[:i], h.list[i+1:]...)
	h.InFlight--
}

// oldest returns the admission of the oldest probe in flight.
func (h *halfOpen) oldest() (*probe, bool) {
	if i := h.oldestAt(); i >= 0 {
		return &h.list[i], true
	}
	return nil, false
}

// oldestAt returns its index, -1 when none is in flight.
func (h *halfOpen) oldestAt() int {
	return slices.IndexFunc(h.list, func(q probe) bool { return !q.timedOut })
}

// Share returns the part of the requests that a ramp admits when it has run for elapsed: From at 0, To from Over on.
func (r *Ramp) Share(elapsed time.Duration) float64 {
	switch {
	case elapsed <= 0:
		return r.From
	case elapsed >= r.Over:
		return r.To
	}
	return r.From + (r.To-r.From)*(float64(elapsed)/float64(r.Over))
}

// Allow decides whether a request may be sent at now, and takes a permit if it needs one: the request's Outcome must
// then come with Permit and Began = now, or Release must be called.
func (c *Circuit) Allow(now Time, buf []Event) (Admission, []Event) {
	if g := c.group; now < g.now || now >= g.next {
		now, buf = g.clock(now, buf)
	} else {
		g.now = now
	}
	mode, would, permit := c.Mode(), false, false
	switch c.state {
	case StateClosed, StateDisabled:
		would = true
	case StateHalfOpen:
		permit = c.takePermit(now)
		would = permit
	}
	return Admission{
		Admitted: would || mode == ModeMonitor, WouldAdmit: would, Permit: permit,
		State: c.state, Mode: mode, Generation: c.generation,
	}, buf
}

func (c *Circuit) takePermit(now Time) bool {
	s := &c.group.plan.HalfOpen
	if s.Ramp != nil {
		return c.group.random.Float64() < s.Ramp.Share(now.Sub(c.since))
	}
	if !c.half.free(s) {
		return false
	}
	c.admit(now)
	c.schedule()
	return true
}

// Began records a probe that the kernel admitted at began, when the circuit was half-open in that generation. It never
// fails. An outcome with a permit whose probe was not recorded also records the probe, at its Began.
func (c *Circuit) Began(began Time, generation uint32, buf []Event) []Event {
	_, buf = c.group.clock(began, buf)
	if c.half != nil && c.generation == generation {
		c.admit(began)
		c.schedule()
	}
	return buf
}

// Release returns the permit of a probe that was sent at began and will have no outcome. It ignores permits of other
// generations, and those of probes that have timed out.
func (c *Circuit) Release(now Time, generation uint32, began Time, buf []Event) []Event {
	_, buf = c.group.clock(now, buf)
	if c.half != nil && c.generation == generation {
		c.giveBack(c.half.find(began))
	}
	return buf
}

func (c *Circuit) giveBack(i int) {
	if i < 0 || c.half.list[i].timedOut {
		return
	}
	c.half.remove(i)
	c.half.Used--
	c.schedule()
}

// recordProbe judges an outcome in half-open with probes.
func (c *Circuit) recordProbe(now Time, o *Outcome, kind class, buf []Event) (Judgement, []Event) {
	p, h := c.group.plan, c.half
	if !o.Permit {
		if kind&classIgnored != 0 {
			return Ignored, buf
		}
		return NoPermit, buf
	}
	i := h.find(o.Began)
	if kind&classIgnored != 0 {
		c.giveBack(i)
		return Ignored, buf
	}
	if i < 0 {
		c.admit(o.Began)
		if i = h.find(o.Began); now.Sub(o.Began) >= p.HalfOpen.Timeout {
			return NoPermit, c.probeTimeout(now, &h.list[i], buf)
		}
	}
	if h.list[i].timedOut {
		return NoPermit, buf
	}
	h.remove(i)
	s := p.sample(o, kind)
	h.Finished++
	if s.flags&(sampleFailure|sampleSlow) != 0 {
		h.Bad++
	}
	c.learn(now, o, s, 1)
	buf = c.decide(now, ReasonProbeFailed, buf)
	if c.half == h {
		c.schedule()
	}
	return Judged, buf
}

// probeTimeout counts a probe without an outcome in time as a bad one.
func (c *Circuit) probeTimeout(at Time, q *probe, buf []Event) []Event {
	q.timedOut = true
	c.half.InFlight--
	c.half.Finished++
	c.half.Bad++
	h := c.half
	buf = c.decide(at, ReasonProbeTimeout, buf)
	if c.half == h {
		c.schedule()
	}
	return buf
}

// decide ends the half-open period if it is decided; bad is the reason if it was the latest probe that decided it.
func (c *Circuit) decide(now Time, bad Reason, buf []Event) []Event {
	p, h := c.group.plan, c.half
	if h.Bad > p.HalfOpen.Tolerate {
		return c.open(now, &cause{reason: bad, source: SourceOutcomes, value: float64(h.Bad), threshold: float64(p.HalfOpen.Tolerate + 1)}, buf)
	}
	if bad != ReasonProbeTimeout && p.halfOpen.holds(c, now) {
		return c.trip(&p.halfOpen, now, buf)
	}
	if h.Finished >= p.HalfOpen.Calls {
		return c.closeCircuit(now, &cause{reason: ReasonProbesPassed, source: SourceOutcomes, value: float64(h.Finished), threshold: float64(p.HalfOpen.Calls)}, buf)
	}
	return buf
}
