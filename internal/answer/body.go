package answer

import "fmt"

// gRPC codes of answers.
const (
	DefaultGRPCStatus = 14 // unavailable
	LimitGRPCStatus   = 8  // resource-exhausted
)

// For returns what a client of that policy gets who is rejected for the reason. An empty body and an empty message are replaced
// by those that name what rejects, and the default gRPC code by that of limits where one rejects.
func (s Spec) For(policy, reason string) Spec {
	if s.Body == "" {
		s.Body = `{"error":"` + cause(reason) + `"}`
	}
	if s.Message == "" {
		s.Message = fmt.Sprintf("cbagent: %s (policy %s, reason %s)", cause(reason), policy, reason)
	}
	if s.GRPCStatus == DefaultGRPCStatus && isLimit(reason) {
		s.GRPCStatus = LimitGRPCStatus
	}
	return s
}

func isLimit(reason string) bool {
	return reason == ReasonConnectionLimit || reason == ReasonRequestLimit || reason == ReasonRateLimit
}

// cause is what a default body and a default message say of a reason.
func cause(reason string) string {
	switch reason {
	case ReasonConnectionLimit:
		return "connection limit"
	case ReasonRequestLimit:
		return "request limit"
	case ReasonRateLimit:
		return "rate limit"
	}
	return "circuit open"
}
