package loadgen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Class is the end of a request without an answer.
type Class string

// Classes. A request that was answered has none.
const (
	Answered       Class = ""
	ConnectRefused Class = "connect-refused"
	ConnectTimeout Class = "connect-timeout"
	Reset          Class = "reset"   // RST before the whole answer, also while connecting
	Closed         Class = "closed"  // FIN before the whole answer
	Timeout        Class = "timeout" // connected, but no whole answer in time
	Failed         Class = "failed"  // any other error: see Result.Err
)

// Result is the result of one request.
type Result struct {
	Status  int           // of the final answer; 0 = none
	Class   Class         // how it ended without an answer
	Err     error         // nil with an answer
	Header  http.Header   // of the answer
	Body    []byte        // of the answer
	Began   time.Time     // when the client began, connecting included
	Connect time.Duration // time to connect; 0 on a kept connection
	Latency time.Duration // from the first write of the request to the whole answer, or to its failure
	Reused  bool          // the connection had carried a request before
}

// FromKernel reports whether cbagent's kernel program gave the answer, and why: open, half-open ...
func (r Result) FromKernel() (reason string, ok bool) {
	if r.Header.Get("Server") != "cbagent" {
		return "", false
	}
	return r.Header.Get("X-Cbagent-Reason"), true
}

// Outcome returns the status in digits, or the class.
func (r Result) Outcome() string {
	if r.Status != 0 {
		return strconv.Itoa(r.Status)
	}
	return string(r.Class)
}

// classify returns the class of an error of connecting, or of a connection.
func classify(err error, connecting bool) Class {
	var netErr net.Error
	switch {
	case err == nil:
		return Answered
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Closed
	case errors.Is(err, context.Canceled):
		return Failed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		if connecting {
			return ConnectTimeout
		}
		return Timeout
	}
	return Failed
}
