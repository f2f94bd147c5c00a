package tables

import (
	"fmt"

	"github.com/cbagent/cbagent/internal/bpf"
)

const (
	answerMax  = int(bpf.CSizeANSWER_MAX)
	retryWidth = int(bpf.CSizeRETRY_DIGITS)
)

// Answer is a rendered answer. An HTTP/2 answer is a HEADERS frame, and a DATA frame if it has a body, of stream 0.
type Answer struct {
	Bytes    []byte // head and body, at most 1,200
	HeadLen  int    // length of the headers, or of the HEADERS frame, in bytes, > 0: a HEAD request gets no more
	RetryAt  int    // even offset in bytes of the eight digits of Retry-After; 0 or less: none
	RetryPad byte   // stands before these digits: a blank or '0'
	Status   int    // HTTP status
	Frames   int    // 0: HTTP/1.x; 1: a HEADERS frame; 2: a DATA frame follows it
}

const frameHeader = 9 // bytes

// framesFit reports whether the kernel finds a frame at the offsets at which it writes stream identifiers.
func (a *Answer) framesFit() bool {
	body := len(a.Bytes) - a.HeadLen
	switch a.Frames {
	case 0:
		return true
	case 1:
		return a.HeadLen >= frameHeader && body == 0
	case 2:
		return a.HeadLen >= frameHeader && body >= frameHeader
	}
	return false
}

// PutAnswer writes an answer at an index that no policy uses. It returns an error when the answer does not fit one packet, or
// when its lengths contradict each other.
func (t *Tables) PutAnswer(index int, a Answer) error {
	if index < 0 || index >= len(t.answers.vals) {
		return fmt.Errorf("answer %d: the table has %d places", index, len(t.answers.vals))
	}
	if len(a.Bytes) > answerMax || a.HeadLen > len(a.Bytes) || a.HeadLen <= 0 {
		return fmt.Errorf("answer of %d bytes, %d of headers: at most %d fit one packet", len(a.Bytes), a.HeadLen, answerMax)
	}
	if !a.framesFit() {
		return fmt.Errorf("answer of %d bytes, %d of headers: cannot be %d frames", len(a.Bytes), a.HeadLen, a.Frames)
	}
	v := bpf.CAnswer{
		Len: uint32(len(a.Bytes)), HeadLen: uint32(a.HeadLen), Status: uint32(a.Status), Frames: uint32(a.Frames),
		Sum: onesSum(a.Bytes), HeadSum: onesSum(a.Bytes[:a.HeadLen]),
	}
	if a.RetryAt > 0 {
		if a.RetryAt%2 != 0 || a.RetryAt+retryWidth > a.HeadLen {
			return fmt.Errorf("answer with Retry-After at %d: must be even and within the headers", a.RetryAt)
		}
		v.RetryAt, v.RetryPad = uint32(a.RetryAt), uint32(a.RetryPad)
	}
	copy(v.Bytes[:], a.Bytes)
	t.answers.vals[index] = v
	return nil
}

// onesSum returns the one's complement sum of 16-bit words in the machine's byte order, which RFC 1071 allows.
func onesSum(b []byte) uint32 {
	var sum uint64
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint64(b[i]) | uint64(b[i+1])<<8
	}
	if len(b)%2 == 1 {
		sum += uint64(b[len(b)-1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum)
}
