package breaker

// ejects returns 1 when the circuit counts as ejected, else 0.
func (c *Circuit) ejects() int {
	switch c.state {
	case StateOpen, StateHalfOpen, StateForcedOpen:
		return 1
	}
	return 0
}

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
		why := g.tooMany(g.ejectedNow)
		buf = newest.shut(now, &why, buf)
	}
	return buf
}

// tooMany is the cause of a closing because the limits do not allow so many ejections.
func (g *Group) tooMany(ejected int) cause {
	allowed := ejected - 1
	for allowed > 0 && !g.within(allowed) {
		allowed--
	}
	return cause{reason: ReasonEjectionLimit, value: float64(ejected), threshold: float64(allowed)}
}
