package policy

// remarkable notes what does less than its name may promise.
func (s *scope) remarkable(p *Policy) {
	if p.Limits.MaxRequests > 0 && p.Protocol.Requests() {
		s.note("limits.maxRequests", "counts a request until the status line of its response: bodies that are still sent are not limited, "+
			"maxConnections limits them")
	}
}
