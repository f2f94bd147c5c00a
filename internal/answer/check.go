package answer

import (
	"fmt"
	"mime"
	"slices"
	"strings"
)

// reserved are the headers that Render writes itself, and those that would change where the answer ends.
var reserved = []string{
	"connection", "content-length", "server", "x-cbagent-reason",
	"keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// CheckStatus says why an answer with a body cannot have that status.
func CheckStatus(status int) error {
	if status < 200 || status > 599 {
		return fmt.Errorf("must be between 200 and 599, got %d", status)
	}
	if status == 204 || status == 205 || status == 304 {
		return fmt.Errorf("must be a status that may have a body, got %d", status)
	}
	return nil
}

// CheckContentType says why s cannot be the value of Content-Type. Empty is fine.
func CheckContentType(s string) error {
	if s == "" {
		return nil
	}
	if err := checkValue(s); err != nil {
		return err
	}
	if media, _, err := mime.ParseMediaType(s); err != nil || !strings.Contains(media, "/") {
		return fmt.Errorf("must be a media type such as text/plain, got %q", s)
	}
	return nil
}

// CheckBody says why s cannot be a body.
func CheckBody(s string) error {
	if len(s) > MaxBody {
		return fmt.Errorf("must be at most %d bytes, got %d", MaxBody, len(s))
	}
	return nil
}

// CheckHeader says why the header cannot be added to an answer. With retryAfter the name Retry-After is taken.
func CheckHeader(h Header, retryAfter bool) error {
	if !isToken(h.Name) {
		return fmt.Errorf("must be a header name (letters, digits and any of !#$%%&'*+-.^_`|~), got %q", h.Name)
	}
	switch name := strings.ToLower(h.Name); {
	case name == "content-type":
		return fmt.Errorf("is set by contentType")
	case name == "retry-after" && retryAfter:
		return fmt.Errorf("is set by retryAfter; a value of your own needs retryAfter: false")
	case name == "grpc-status":
		return fmt.Errorf("is set by grpcStatus")
	case name == "grpc-message":
		return fmt.Errorf("is set by message")
	case slices.Contains(reserved, name):
		return fmt.Errorf("%s is a header that cbagent sets itself, or that would change where the answer ends", h.Name)
	}
	return checkValue(h.Value)
}

// CheckSize says by how much the largest HTTP answer is too large, for any reason in reasons.
func CheckSize(s Spec, reasons []string, retryAfter bool) error {
	size := 0
	for _, reason := range reasons {
		spec := s.For("", reason)
		size = max(size, len(Render(spec, reason, retryAfter).Bytes), len(RenderHTTP2(spec, reason, retryAfter).Bytes))
	}
	if size > MaxSize {
		return fmt.Errorf("the answer with all its headers must be at most %d bytes, got %d", MaxSize, size)
	}
	return nil
}

// CheckGRPCSize says by how much the largest answer to a gRPC call is too large, for any reason in reasons.
func CheckGRPCSize(s Spec, policy string, reasons []string) error {
	size := 0
	for _, reason := range reasons {
		size = max(size, len(RenderGRPC(s.For(policy, reason), reason).Bytes))
	}
	if size > MaxSize {
		return fmt.Errorf("the answer to a gRPC call with all its headers must be at most %d bytes, got %d", MaxSize, size)
	}
	return nil
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func checkValue(s string) error {
	for i, c := range []byte(s) {
		if (c < ' ' && c != '\t') || c > '~' {
			return fmt.Errorf("must be printable ASCII without line breaks, got byte 0x%02x at offset %d", c, i)
		}
	}
	if s != strings.TrimSpace(s) {
		return fmt.Errorf("must not begin or end with blanks, got %q", s)
	}
	return nil
}
