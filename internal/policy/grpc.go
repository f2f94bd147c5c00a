package policy

import (
	"slices"

	"github.com/cbagent/cbagent/internal/breaker"
)

// suspectGRPC warns about what does not suit gRPC clients.
func (s *scope) suspectGRPC(p *Policy) {
	if p.Protocol != GRPC {
		return
	}
	o := &p.Breaker.Outcome
	if o.Failure != (breaker.ResultSet{}) && !slices.ContainsFunc(grpcResults(), o.Fails) {
		s.warn("outcome.failure", "makes no gRPC code a failure: calls that fail have the status 200 and count as successes; name codes such as grpc-unavailable")
	}
}
