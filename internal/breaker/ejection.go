package breaker

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
