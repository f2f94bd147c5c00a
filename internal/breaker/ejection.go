package breaker

import "time"

// idleLeast is how long a half-open circuit counts as ejected without a probe, at least.
const idleLeast = 30 * time.Second

// ejects returns 1 when the circuit counts as ejected, else 0.
func (c *Circuit) ejects() int {
	switch {
	case c.yielded:
	case c.state == StateOpen, c.state == StateHalfOpen, c.state == StateForcedOpen:
		return 1
	}
	return 0
}

// yieldDue returns when a half-open circuit stops counting as ejected, unless a probe is admitted before. A backend may get
// no requests for hours, and the limits must not keep other circuits closed for as long.
func (c *Circuit) yieldDue() Time {
	p := c.group.plan
	if c.half == nil || c.yielded || p.Scope == ScopePolicy {
		return Never
	}
	return later(c.half.asked, max(idleLeast, p.Open.Duration))
}

// yield stops counting the circuit as ejected. From now on the limits must allow a re-opening.
func (c *Circuit) yield() {
	c.group.ejectedNow -= c.ejects()
	c.yielded, c.ejected = true, 0
	c.schedule()
}

// countAsEjected counts the circuit as ejected again, as the newest ejection, if the limits allow it: the backend gets requests
// again, and the circuit rejects all but its probes.
func (c *Circuit) countAsEjected() {
	if !c.yielded || !c.group.mayEject() {
		return
	}
	c.yielded = false
	c.group.ejectedNow += c.ejects()
	c.group.ejections++
	c.ejected = c.group.ejections
}

// mayEject reports whether the limits allow one more ejection, the candidate counted.
func (g *Group) mayEject() bool {
	return g.plan.Scope == ScopePolicy || g.within(g.ejectedNow+1)
}

func (g *Group) within(ejected int) bool {
	e := &g.plan.Ejection
	return 100*float64(ejected)/float64(len(g.known)) <= e.MaxPercent && len(g.known)-ejected >= e.MinHealthy
}

// enforceLimits closes the newest ejected circuits while there are more than the limits allow.
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
		why := g.tooMany(g.ejectedNow)
		buf = newest.closeCircuit(now, &why, buf)
	}
	return buf
}

// tooMany is the cause of a closing because the limits do not allow so many ejections.
func (g *Group) tooMany(ejected int) cause {
	allowed := ejected - 1
	for allowed > 0 && !g.within(allowed) {
		allowed--
	}
	return cause{reason: ReasonEjectionLimit, source: SourceOutcomes, value: float64(ejected), threshold: float64(allowed)}
}
