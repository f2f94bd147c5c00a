package policy

import (
	"math"

	"github.com/cbagent/cbagent/internal/breaker"
)

// suspectNever warns about what the other keys of the policy exclude.
func (s *scope) suspectNever(p *Policy, trips map[breaker.TripKind][]breaker.Trip) {
	for _, t := range trips[breaker.TripPendingAge] {
		s.suspectPendingAge(p, Duration(t.Over))
	}
	n, known := p.Match.count()
	if !known || p.Breaker.Scope != breaker.ScopeBackend {
		return
	}
	s.suspectEjection(&p.Breaker.Ejection, n)
	for _, t := range trips[breaker.TripSuccessRateOutlier] {
		if t.MinBackends > n {
			s.warn("trip", "successRateOutlier compares %d backends or more, and match has %d: it can never trip; give minBackends", t.MinBackends, n)
		}
	}
}

// count returns how many backends the policy has, if the file says that.
func (m *Match) count() (n int, known bool) {
	return len(m.Addresses), len(m.CIDRs)+len(m.Hosts)+len(m.Services) == 0
}

// suspectEjection warns about limits that do not let even one of n backends be ejected.
func (s *scope) suspectEjection(e *breaker.Ejection, n int) {
	// As breaker.Group asks of the first ejection. Of 0 percent there is another warning.
	if first := 100 / float64(n); first > e.MaxPercent && e.MaxPercent > 0 {
		s.warn("ejection.maxPercent", "%g percent of %d backends is less than one: a circuit can never open; %g lets one do so",
			e.MaxPercent, n, math.Ceil(first))
	}
	if n-1 < e.MinHealthy {
		s.warn("ejection.minHealthy", "%d of %d backends must be left: a circuit can never open", e.MinHealthy, n)
	}
}

// suspectPendingAge warns about an age that what is pending cannot reach, since it times out before.
func (s *scope) suspectPendingAge(p *Policy, age Duration) {
	connect, request := Duration(p.ConnectTimeout), Duration(p.Timeout)
	if p.Protocol == TCP {
		if connect > 0 && age > connect {
			s.warn("trip", "pendingAge %s is above outcome.connectTimeout, %s: it can never trip", age, connect)
		}
		return
	}
	switch {
	case request == 0 || age <= request:
	case connect > 0 && age > connect:
		s.warn("trip", "pendingAge %s is above outcome.timeout, %s: it can never trip", age, request)
	default:
		s.warn("trip", "pendingAge %s is above outcome.timeout, %s: a request can never trip it, only an attempt to connect", age, request)
	}
}
