package policy

import (
	"fmt"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// suspectHang warns when nothing notices a backend that accepts requests and does not answer them. A client that waits
// makes each a timeout, one that leaves makes it abandoned.
func (s *scope) suspectHang(p *Policy, trips map[breaker.TripKind][]breaker.Trip) {
	o := &p.Breaker.Outcome
	if o.Failure == (breaker.ResultSet{}) {
		return // nothing is a failure, which is a warning of its own
	}
	timeout := whyNoFailure(o, "outcome.timeout", p.Timeout, breaker.ResultTimeout)
	abandoned := whyNoFailure(o, "outcome.patience", p.Patience, breaker.ResultAbandoned)
	switch {
	case timeout != "" && abandoned != "" && !p.noticesHang(trips):
		s.warn("outcome.failure", "%s and %s: a backend that hangs can never open its circuit", timeout, abandoned)
	case !o.Fails(breaker.ResultTimeout) && !o.Fails(breaker.ResultAbandoned):
		s.warn("outcome.failure", "%s and %s: a request that hangs counts as a success, or not at all", timeout, abandoned)
	case p.Patience == 0 && len(trips[breaker.TripPendingAge]) == 0:
		s.warn("outcome.patience", "is 0s, and there is no pendingAge: a backend that hangs can never open its circuit while "+
			"clients leave before outcome.timeout, %s", Duration(p.Timeout))
	}
}

// whyNoFailure says why no request ends as that failure, "" if some do.
func whyNoFailure(o *breaker.OutcomeRules, key string, after time.Duration, r breaker.Result) string {
	switch {
	case after == 0:
		return key + " is 0s"
	case !o.Fails(r):
		return fmt.Sprintf("%s is no failure", r)
	}
	return ""
}

// noticesHang reports whether a tripper looks at requests that hang although they are no failures.
func (p *Policy) noticesHang(trips map[breaker.TripKind][]breaker.Trip) bool {
	o := &p.Breaker.Outcome
	timeouts := p.Timeout > 0 && !o.Ignores(breaker.ResultTimeout)
	abandoned := p.Patience > 0 && !o.Ignores(breaker.ResultAbandoned)
	for _, t := range trips[breaker.TripConsecutiveFailures] {
		if t.Of != nil && (timeouts && t.Of.Has(breaker.ResultTimeout) || abandoned && t.Of.Has(breaker.ResultAbandoned)) {
			return true
		}
	}
	byLatency := len(trips[breaker.TripSlowRate])+len(trips[breaker.TripAvgLatency]) > 0
	return len(trips[breaker.TripPendingAge]) > 0 || byLatency && (timeouts || abandoned)
}
