package metrics

import (
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/view"
)

func (b *builder) policy(s *view.Snapshot, p *view.Policy, folded bool) {
	base := labels{label("direction", p.Direction.String()), label("policy", p.Name)}
	b.add(policyInfo, base.with("mode", p.Breaker.Mode.String(), "scope", p.Breaker.Scope.String(),
		"protocol", p.Protocol.String(), "answer", p.Reject.With.String()), 1)
	b.add(known, base, float64(p.Known))
	b.add(ejected, base, float64(p.Ejected))
	b.add(complete, base, truth(p.Complete))
	b.add(discovers, base, truth(p.DiscoveryErr != nil))
	l := &p.Limits
	for _, set := range []struct {
		name string
		n    int
	}{
		{"connections", l.MaxConnections}, {"requests", l.MaxRequests}, {"requests-per-connection", l.MaxRequestsPerConnection},
	} {
		if set.n > 0 {
			b.add(limit, base.with("limit", set.name), float64(set.n))
		}
	}
	if r := p.RateLimit; r != nil {
		b.add(limit, base.with("limit", "rate"), float64(r.Limit)/r.Period.Seconds())
		b.add(limit, base.with("limit", "burst"), float64(r.Burst))
	}
	if folded {
		b.add(foldedCircuits, base, float64(len(p.Circuits)))
		b.sum(s, p, base)
		return
	}
	for i := range p.Circuits {
		b.circuit(s, p, &p.Circuits[i], base)
	}
}

// states in the order of their numbers.
var states = []breaker.State{
	breaker.StateClosed, breaker.StateOpen, breaker.StateHalfOpen, breaker.StateForcedOpen, breaker.StateDisabled,
}
