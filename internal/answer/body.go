package answer

// For returns what a client gets who is rejected for the reason: an empty body is replaced by one that names what rejects.
func (s Spec) For(reason string) Spec {
	if s.Body == "" {
		s.Body = `{"error":"` + cause(reason) + `"}`
	}
	return s
}

// cause is what a default body says of a reason.
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
