package policy

import "github.com/cbagent/cbagent/internal/breaker"

// suspectStreaks warns of streaks of outcomes that are never judged.
func (s *scope) suspectStreaks(p *Policy, trips map[breaker.TripKind][]breaker.Trip) {
	for _, t := range trips[breaker.TripConsecutiveFailures] {
		if t.Of != nil && p.ignoresAll(t.Of) {
			s.warn("trip", "consecutiveFailures.of names only outcomes that are ignored: that part can never trip")
		}
	}
}

func (p *Policy) ignoresAll(of *breaker.ResultSet) bool {
	for r := range breaker.Result(breaker.MaxResult + 1) {
		if of.Has(r) && !p.Breaker.Outcome.Ignores(r) {
			return false
		}
	}
	return true
}
