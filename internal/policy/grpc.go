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
	if p.Reject.With == Reset {
		s.warn("reject.with", "reset sends gRPC clients into a back-off of up to 2 minutes, which outlives the open circuit; after "+
			"respond they call again at once")
	}
	if p.Reject.With == Respond && p.Reject.Answer.GRPCStatus == 0 {
		s.warn("reject.grpcStatus", "0 is OK: a call that returns one message fails at the client, since the answer has none")
	}
	o := &p.Breaker.Outcome
	if o.Failure != (breaker.ResultSet{}) && !slices.ContainsFunc(grpcResults(), o.Fails) {
		s.warn("outcome.failure", "makes no gRPC code a failure: calls that fail have the status 200 and count as successes; name codes such as grpc-unavailable")
	}
}
