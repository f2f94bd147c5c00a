package policy

import (
	"slices"

	"github.com/cbagent/cbagent/internal/breaker"
)

// names reports whether the file, a policy or its defaults, gives the list at path and names the outcome in it.
func (s *scope) names(path string, list Outcomes, r breaker.Result) bool {
	return s.given(path) && slices.Contains(list, r.String())
}

// outcomeRules returns what the lists failure and ignore stand for. Where neither names unreachable, it counts as
// connect-timeout: an attempt to connect to a dead host is one or the other, by which is noticed first.
func (s *scope) outcomeRules(o *OutcomeSpec) breaker.OutcomeRules {
	rules := breaker.OutcomeRules{Failure: o.Failure.results(), Ignore: o.Ignore.results()}
	if s.names("outcome.failure", o.Failure, breaker.ResultUnreachable) || s.names("outcome.ignore", o.Ignore, breaker.ResultUnreachable) {
		return rules
	}
	asConnectTimeout(&rules.Failure)
	asConnectTimeout(&rules.Ignore)
	return rules
}

// asConnectTimeout adds unreachable to a set that has connect-timeout.
func asConnectTimeout(set *breaker.ResultSet) {
	if set.Has(breaker.ResultConnectTimeout) {
		set.Add(breaker.ResultUnreachable)
	}
}
