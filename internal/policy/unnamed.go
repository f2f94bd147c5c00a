package policy

import (
	"slices"

	"github.com/cbagent/cbagent/internal/breaker"
)

// kin are outcomes that count as other ones where a file names none of them: lists that say nothing of HTTP/2 or gRPC are
// those of operators who meant all failures of their kind.
type kin struct {
	all []breaker.Result                  // naming one of these says what all of them are
	as  map[breaker.Result]breaker.Result // else these count as the others
}

// families are all of them. An attempt to connect to a dead host is connect-timeout or unreachable, by which is noticed first.
// The RST_STREAM of a backend is the reset of HTTP/2. A gRPC code counts as the status of which it is the equivalent; one that
// has none, or a client's mistake as its reason, is a success.
var families = []kin{
	family(map[breaker.Result]breaker.Result{breaker.ResultUnreachable: breaker.ResultConnectTimeout}),
	family(map[breaker.Result]breaker.Result{
		breaker.ResultH2Refused: breaker.ResultReset,
		breaker.ResultH2Reset:   breaker.ResultReset,
	}),
	{all: grpcResults(), as: map[breaker.Result]breaker.Result{
		breaker.ResultGRPC(breaker.GRPCUnknown):           500,
		breaker.ResultGRPC(breaker.GRPCInternal):          500,
		breaker.ResultGRPC(breaker.GRPCDataLoss):          500,
		breaker.ResultGRPC(breaker.GRPCUnavailable):       503,
		breaker.ResultGRPC(breaker.GRPCDeadlineExceeded):  504,
		breaker.ResultGRPC(breaker.GRPCResourceExhausted): 429,
	}},
}

// family returns outcomes that all count as another.
func family(as map[breaker.Result]breaker.Result) kin {
	k := kin{as: as}
	for r := range as {
		k.all = append(k.all, r)
	}
	return k
}

// names reports whether the list names one of these outcomes.
func (k *kin) names(list Outcomes) bool {
	return slices.ContainsFunc(k.all, func(r breaker.Result) bool { return slices.Contains(list, r.String()) })
}

// add adds to the set what counts as something in it.
func (k *kin) add(set *breaker.ResultSet) {
	for r, as := range k.as {
		if set.Has(as) {
			set.Add(r)
		}
	}
}

// outcomeRules returns what the lists failure and ignore stand for.
func (s *scope) outcomeRules(o *OutcomeSpec) breaker.OutcomeRules {
	rules := breaker.OutcomeRules{Failure: o.Failure.results(), Ignore: o.Ignore.results()}
	for i := range families {
		k := &families[i]
		if s.given("outcome.failure") && k.names(o.Failure) || s.given("outcome.ignore") && k.names(o.Ignore) {
			continue
		}
		k.add(&rules.Failure)
		k.add(&rules.Ignore)
	}
	return rules
}

// streakOf returns what the list of a consecutiveFailures stands for.
func streakOf(list Outcomes) breaker.ResultSet {
	set := list.results()
	for i := range families {
		if k := &families[i]; !k.names(list) {
			k.add(&set)
		}
	}
	return set
}
