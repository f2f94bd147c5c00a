package breaker

import (
	"math"
)

// mayEject reports whether the limits allow one more ejection, the candidate counted.
func (g *Group) mayEject() bool {
	return g.plan.Scope == ScopePolicy || g.within(g.ejectedNow+1)
}

func (g *Group) within(ejected int) bool {
	e := &g.plan.Ejection
	return 100*float64(ejected)/float64(len(g.known)) <= e.MaxPercent && len(g.known)-ejected >= e.MinHealthy
}

// enforceLimits takes back the newest ejections by outcome while there are more than the limits allow.
func (g *Group) enforceLimits(now Time, buf []Event) []Event {
	for g.plan.Scope == ScopeBackend && g.ejectedNow > 0 && !g.within(g.ejectedNow) {
		var newest *Circuit
		for _, c := range g.circuits {
			if c.ejected > 0 && (newest == nil || c.ejected > newest.ejected) {
				newest = c
			}
		}
		if newest == nil {
			break // only forced-open ones are left
		}
		allowed := g.ejectedNow - 1
		for allowed > 0 && !g.within(allowed) {
			allowed--
		}
		buf = newest.shut(now, &cause{reason: ReasonEjectionLimit, value: float64(g.ejectedNow), threshold: float64(allowed)}, buf)
	}
	return buf
}

// outlier compares the success rate of a backend with those of the group's backends that have l.n calls. ok is false
// when it has not as many itself, or there are fewer than l.hosts such backends.
func (g *Group) outlier(c *Circuit, l *leaf, now Time) (rate, threshold float64, ok bool) {
	own := &c.window.counts
	if own.total < l.n {
		return 0, 0, false
	}
	rate = successRate(own)
	// Differences to the own rate, so that equal rates differ by exactly 0.
	hosts, sum, squares := 0, 0.0, 0.0
	for _, other := range g.circuits {
		if d, has := other.differs(rate, l.n, now); has {
			hosts++
			sum += d
		}
	}
	if hosts < l.hosts {
		return 0, 0, false
	}
	mean := sum / float64(hosts)
	for _, other := range g.circuits {
		if d, has := other.differs(rate, l.n, now); has {
			squares += (d - mean) * (d - mean)
		}
	}
	return rate, rate + (mean - l.number*math.Sqrt(squares/float64(hosts))), true
}

func (c *Circuit) differs(rate float64, minCalls uint64, now Time) (float64, bool) {
	c.window.expire(&c.group.plan.shape, now)
	if c.window.total < minCalls {
		return 0, false
	}
	return successRate(&c.window.counts) - rate, true
}

func successRate(c *counts) float64 { return float64(c.total-c.failures) / float64(c.total) }

// Update puts new settings in force. Circuits keep their state, deadline and step; they keep their windows if those
// would have been recorded alike, and a half-open period goes on unless it is decided under the new rules. Impossible
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
			c.remake()
		}
		if before.Open.Duration != s.Open.Duration && c.state == StateClosed {
			c.decay, c.decaySeen = int64(now.Sub(c.since)/s.Open.Duration), false
		}
		buf = c.reloaded(now, before, buf)
	}
	return g.enforceLimits(now, buf), nil
}

// remake gives the circuit an empty memory of the shape that is now in force.
func (c *Circuit) remake() {
	c.window = window{end: math.MinInt64}
	c.streak, c.streaks, c.failing = 0, nil, nil
	if n := len(c.group.plan.streaks); n > 0 {
		c.streaks = make([]uint64, n)
	}
}

// reloaded brings a circuit in line with new settings.
func (c *Circuit) reloaded(now Time, before *plan, buf []Event) []Event {
	p := c.group.plan
	why := because(ReasonReload)
	if c.override == nil && before.Mode != p.Mode {
		buf = c.obey(now, &why, buf)
	}
	if c.state == StateHalfOpen && !p.sameProbing(before) {
		buf = c.reprobe(now, before, buf)
	}
	c.pendingNext = 0
	if ages := c.program(); ages == nil || len(ages.ages) == 0 {
		c.pendingKnown = false
	}
	c.schedule()
	return buf
}

// reprobe goes on with a half-open period under other rules: one that is decided by them ends, one of the other kind
// begins now.
func (c *Circuit) reprobe(now Time, before *plan, buf []Event) []Event {
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
	case h.Calls == 0:
		return c.shut(now, &why, buf)
	case c.half == nil:
		c.half, c.until = &halfOpen{}, Never
	case c.half.Bad > h.Tolerate:
		return c.open(now, &why, buf)
	case c.half.Finished >= h.Calls:
		return c.shut(now, &why, buf)
	}
	return buf
}
