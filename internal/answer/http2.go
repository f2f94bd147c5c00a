package answer

import (
	"fmt"
	"strconv"
	"strings"
)

// Parts of HTTP/2 frames (RFC 9113, 4.1).
const (
	frameHeader = 9 // bytes
	typeData    = 0
	typeHeaders = 1
	endStream   = 1
	endHeaders  = 4
)

// RenderHTTP2 returns the answer to an HTTP/2 client who is rejected for the given reason: a HEADERS frame, and a DATA frame with
// the body if there is one. The frames have the stream identifier 0, which the sender overwrites. For HEAD it sends the first frame
// alone, with END_STREAM.
//
// With retryAfter there is a field of RetryFieldLen digits, all 0, at an even offset. The sender overwrites it with the seconds and
// zeros before them: in HTTP/2 a value must not begin with a blank.
func RenderHTTP2(s Spec, reason string, retryAfter bool) Rendered {
	var b block
	b.status(s.Status)
	b.field("server", "cbagent")
	if s.ContentType != "" {
		b.field("content-type", s.ContentType)
	}
	b.fields(s.Headers)
	b.field("content-length", strconv.Itoa(len(s.Body)))
	r := Rendered{RetryAt: -1, RetryPad: '0', Status: s.Status, Frames: 1}
	if retryAfter {
		b.name("retry-after")
		const length = 1 // bytes of the value's length
		digits := RetryFieldLen + (frameHeader+len(b)+length)%2
		b.text(strings.Repeat("0", digits))
		r.RetryAt = frameHeader + len(b) - RetryFieldLen
	}
	b.field("x-cbagent-reason", reason)
	if s.Body == "" {
		r.Bytes = frame(nil, typeHeaders, endHeaders|endStream, string(b))
		r.HeadLen = len(r.Bytes)
		return r
	}
	r.Bytes = frame(nil, typeHeaders, endHeaders, string(b))
	r.HeadLen = len(r.Bytes)
	r.Bytes = frame(r.Bytes, typeData, endStream, s.Body)
	r.Frames = 2
	return r
}

// RenderGRPC returns the answer to a gRPC client who is rejected for the given reason: a HEADERS frame that ends the stream, in
// gRPC's terms trailers only. The frame has the stream identifier 0, which the sender overwrites.
func RenderGRPC(s Spec, reason string) Rendered {
	var b block
	b.status(200)
	b.field("content-type", "application/grpc")
	b.field("grpc-status", strconv.Itoa(s.GRPCStatus))
	if s.Message != "" {
		b.field("grpc-message", percentEncoded(s.Message))
	}
	b.field("x-cbagent-reason", reason)
	b.fields(s.Headers)
	r := Rendered{RetryAt: -1, RetryPad: '0', Status: 200, Frames: 1}
	r.Bytes = frame(nil, typeHeaders, endHeaders|endStream, string(b))
	r.HeadLen = len(r.Bytes)
	return r
}

func (b *block) fields(headers []Header) {
	for _, h := range headers {
		b.field(strings.ToLower(h.Name), h.Value)
	}
}

// frame appends a frame of stream 0.
func frame(to []byte, kind, flags byte, payload string) []byte {
	n := len(payload)
	to = append(to, byte(n>>16), byte(n>>8), byte(n), kind, flags, 0, 0, 0, 0)
	return append(to, payload...)
}

// percentEncoded returns a message as grpc-message carries it: printable ASCII, of which the percent sign and all other bytes are
// encoded. So are blanks at the ends, which a value of HTTP/2 must not have.
func percentEncoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		atEnd := c == ' ' && (strings.Trim(s[:i], " ") == "" || strings.Trim(s[i:], " ") == "")
		if c < ' ' || c > '~' || c == '%' || atEnd {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
