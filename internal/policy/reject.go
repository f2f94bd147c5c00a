package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cbagent/cbagent/internal/answer"
)

// rejection resolves what a client gets who is rejected.
func (s *scope) rejection(spec *Spec, protocol Protocol) Reject {
	r := Reject{
		With:       enum[RejectWith](spec.Reject.With),
		Existing:   spec.Reject.Existing,
		RetryAfter: spec.Reject.RetryAfter,
		Answer: answer.Spec{
			Status:      spec.Reject.Status,
			ContentType: spec.Reject.ContentType,
			Body:        spec.Reject.Body,
			GRPCStatus:  spec.Reject.GRPCStatus,
			Message:     spec.Reject.Message,
		},
	}
	if protocol == TCP {
		if !s.given("reject.with") {
			r.With = Reset
		}
		if !s.given("reject.existing") {
			r.Existing = false
		}
		if r.With == Respond {
			s.reject("reject.with", "must be reset or drop for protocol tcp, got respond%s", s.origin("reject.with"))
		}
	}
	for name, value := range spec.Reject.Headers {
		h := answer.Header{Name: name, Value: value}
		if path := "reject.headers." + name; s.sound(path) {
			if err := answer.CheckHeader(h, r.RetryAfter); err != nil {
				s.reject(path, "%s", err)
			}
		}
		r.Answer.Headers = append(r.Answer.Headers, h)
	}
	slices.SortFunc(r.Answer.Headers, func(a, b answer.Header) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	s.checkAnswer(spec, r)
	return r
}

// checkAnswer reports what is wrong with the answer as a whole.
func (s *scope) checkAnswer(spec *Spec, r Reject) {
	for i := 1; i < len(r.Answer.Headers); i++ {
		if h := r.Answer.Headers[i]; strings.EqualFold(h.Name, r.Answer.Headers[i-1].Name) {
			s.reject("reject.headers."+h.Name, "is the same header as %s", r.Answer.Headers[i-1].Name)
		}
	}
	for path, err := range map[string]error{
		"reject.status":      answer.CheckStatus(r.Answer.Status),
		"reject.contentType": answer.CheckContentType(r.Answer.ContentType),
		"reject.body":        answer.CheckBody(r.Answer.Body),
	} {
		if err != nil && s.sound(path) {
			s.reject(path, "%s", err)
		}
	}
	if !s.sound("reject.status", "reject.contentType", "reject.body", "reject.message") {
		return
	}
	largest := r.Answer
	if spec.RateLimit != nil && len(answer.Render(answer.Spec{Status: spec.RateLimit.Status}, "", false).Bytes) >
		len(answer.Render(answer.Spec{Status: largest.Status}, "", false).Bytes) {
		largest.Status = spec.RateLimit.Status
	}
	if err := answer.CheckSize(largest, answer.Reasons(), r.RetryAfter); err != nil {
		s.reject(s.firstGiven("reject", "reject.body", "reject.headers", "reject.contentType"), "%s", err)
	} else if err := answer.CheckGRPCSize(largest, spec.Name, answer.Reasons()); err != nil {
		s.reject(s.firstGiven("reject", "reject.message", "reject.headers"), "%s", err)
	}
}

// firstGiven returns the first of the paths that the file gives, or another.
func (s *scope) firstGiven(other string, paths ...string) string {
	for _, path := range paths {
		if s.given(path) {
			return path
		}
	}
	return other
}
