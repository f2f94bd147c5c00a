package policy

import (
	"github.com/cbagent/cbagent/internal/breaker"
)

// checkTrip reports a tripper that looks at nothing but the circuit's state.
func (s *scope) checkTrip(t breaker.Trip) {
	if !looksAtOutcomes(t) {
		s.reject("trip", "must look at outcomes: state alone trips at every one of them, or never")
	}
}

func looksAtOutcomes(t breaker.Trip) bool {
	switch t.Kind {
	case breaker.TripState:
		return false
	case breaker.TripAny, breaker.TripAll, breaker.TripNot:
		for _, child := range t.Children {
			if looksAtOutcomes(child) {
				return true
			}
		}
		return false
	}
	return true
}

// kinds collects the trippers of each kind in t.
func kinds(t breaker.Trip, into map[breaker.TripKind][]breaker.Trip) map[breaker.TripKind][]breaker.Trip {
	into[t.Kind] = append(into[t.Kind], t)
	for _, child := range t.Children {
		kinds(child, into)
	}
	return into
}

// suspect warns about what is allowed and hardly meant.
func (s *scope) suspect(spec *Spec, p *Policy) {
	b := &p.Breaker
	trips := kinds(b.Trip, map[breaker.TripKind][]breaker.Trip{})
	if b.Window.Type == breaker.WindowCount {
		for _, kind := range []breaker.TripKind{breaker.TripMinCalls, breaker.TripFailureCount, breaker.TripSuccessRateOutlier} {
			for _, t := range trips[kind] {
				if t.N > b.Window.Count {
					s.warn("trip", "asks for %d outcomes, but the window holds %d: that part can never trip", t.N, b.Window.Count)
				}
			}
		}
	}
	s.suspectNever(p, trips)
	for _, t := range trips[breaker.TripSlowRate] {
		switch {
		case b.Outcome.Slow != 0:
		case t.Over == 0:
			s.warn("trip", "asks for slow outcomes, but outcome.slow is 0s: it can never trip")
		case spec.HalfOpen.Ramp == nil && spec.HalfOpen.Calls > 0:
			s.warn("trip", "asks for outcomes over %s, but probes are slow by outcome.slow, which is 0s: slow ones close the circuit again", t.Over)
		}
	}
	if b.Scope == breaker.ScopePolicy && len(trips[breaker.TripSuccessRateOutlier]) > 0 {
		s.warn("trip", "successRateOutlier compares backends, but with scope policy there is only one circuit: it can never trip")
	}
	if b.Scope == breaker.ScopePolicy && (b.Ejection.MaxPercent != 100 || b.Ejection.MinHealthy != 0) {
		s.warn("ejection", "has no effect with scope policy")
	}
	if b.Ejection.MaxPercent == 0 && b.Scope == breaker.ScopeBackend {
		s.warn("ejection.maxPercent", "0 means that a circuit can never open; mode monitor says so more clearly")
	}
	if b.Outcome.Failure == (breaker.ResultSet{}) {
		s.warn("outcome.failure", "is empty: nothing is a failure")
	}
	s.suspectGRPC(p)
	s.suspectStreaks(p, trips)
	if p.Protocol == TCP {
		s.suspectTCP(spec)
	} else {
		s.suspectHang(p, trips)
	}
	for _, path := range []string{"halfOpen.calls", "halfOpen.concurrent", "halfOpen.tolerate", "halfOpen.timeout"} {
		switch {
		case s.self[path] && spec.HalfOpen.Ramp != nil:
			s.warn(path, "has no effect with ramp")
		case s.self[path] && spec.HalfOpen.Calls == 0 && path != "halfOpen.calls":
			s.warn(path, "has no effect without calls")
		}
	}
	if p.Reject.With != Respond {
		for _, path := range []string{
			"reject.status", "reject.grpcStatus", "reject.message", "reject.contentType", "reject.body", "reject.retryAfter", "reject.headers", "rateLimit.status",
		} {
			if s.self[path] {
				s.warn(path, "has no effect with reject.with %s", p.Reject.With)
			}
		}
	}
}

func (s *scope) suspectTCP(spec *Spec) {
	for path, value := range map[string]int{
		"limits.maxRequests":              spec.Limits.MaxRequests,
		"limits.maxRequestsPerConnection": spec.Limits.MaxRequestsPerConnection,
	} {
		if value != 0 {
			s.warn(path, "has no effect with protocol tcp, which knows connections only")
		}
	}
	// outcome.slow has one: a connection may take long to be made.
	for _, path := range []string{"outcome.timeout", "outcome.patience"} {
		if s.self[path] {
			s.warn(path, "has no effect with protocol tcp, which knows connections only")
		}
	}
}
