// Package answer renders the answers that the kernel programs give to clients who are rejected: in HTTP/1.x, in HTTP/2, and to
// gRPC calls.
//
// There is no Date header: an origin server without a clock must not send one (RFC 9110, 6.6.1), and the bytes are
// rendered long before they are sent.
package answer

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Limits of an answer, in bytes.
const (
	MaxBody = 1000 // of the body
	MaxSize = 1200 // of the answer as a whole: one segment everywhere
)

// RetryFieldLen is the length in bytes of the field for the seconds of Retry-After.
const RetryFieldLen = 8

// Why a client is rejected: the values of X-Cbagent-Reason.
const (
	ReasonOpen            = "open"
	ReasonForcedOpen      = "forced-open"
	ReasonHalfOpen        = "half-open"
	ReasonConnectionLimit = "connection-limit"
	ReasonRequestLimit    = "request-limit"
	ReasonRateLimit       = "rate-limit"
)

// Reasons returns all of them.
func Reasons() []string {
	return []string{
		ReasonOpen, ReasonForcedOpen, ReasonHalfOpen, ReasonConnectionLimit, ReasonRequestLimit, ReasonRateLimit,
	}
}

// Spec is what a policy says of an answer.
type Spec struct {
	Status      int
	ContentType string // empty = no such header
	Body        string // empty: the default, see For
	Headers     []Header
	GRPCStatus  int    // see For
	Message     string // grpc-message; empty: the default, see For
}

// Header is one more header of an answer.
type Header struct {
	Name, Value string
}

// Rendered is an answer, ready to be sent.
type Rendered struct {
	Bytes    []byte // the whole answer; in HTTP/1.x its length is a multiple of 4
	HeadLen  int    // status line and headers with the empty line after them, or the HEADERS frame: what HEAD gets
	RetryAt  int    // even offset of the field for the seconds of Retry-After; -1 = there is none
	RetryPad byte   // what stands before these seconds: a blank, or '0' in HTTP/2
	Status   int    // HTTP status
	Frames   int    // HTTP/2: 1 or 2; HTTP/1.x: 0
}

// Render returns the HTTP/1.x answer to a client who is rejected for the given reason.
//
// With retryAfter it has a field of RetryFieldLen bytes, "       0", that the sender overwrites with the seconds in
// decimal, on the right, and blanks before them. More blanks bring that field to an even offset and the answer to a
// multiple of 4, which keeps the arithmetic of checksums in the kernel simple. All blanks stand before a value: those after
// one belong to it for some clients, although they mean nothing either (RFC 9110, 5.5).
func Render(s Spec, reason string, retryAfter bool) Rendered {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nServer: cbagent\r\nConnection: close\r\n", s.Status, http.StatusText(s.Status))
	if s.ContentType != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", s.ContentType)
	}
	for _, h := range s.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("Content-Length: " + strconv.Itoa(len(s.Body)) + "\r\n")
	retryAt := -1
	if retryAfter {
		b.WriteString("Retry-After: ")
		pad(&b, b.Len(), 2)
		retryAt = b.Len()
		fmt.Fprintf(&b, "%*s\r\n", RetryFieldLen, "0")
	}
	b.WriteString("X-Cbagent-Reason: ")
	const end = "\r\n\r\n"
	pad(&b, b.Len()+len(reason)+len(end)+len(s.Body), 4)
	b.WriteString(reason + end)
	headLen := b.Len()
	b.WriteString(s.Body)
	return Rendered{Bytes: []byte(b.String()), HeadLen: headLen, RetryAt: retryAt, RetryPad: ' ', Status: s.Status}
}

// pad writes the blanks that bring length to a multiple of n.
func pad(b *strings.Builder, length, n int) {
	b.WriteString(strings.Repeat(" ", (n-length%n)%n))
}
