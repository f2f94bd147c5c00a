package breaker

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Result is the end of one request or connection attempt: an HTTP status (100..999), a gRPC code (ResultGRPC) or one of the
// constants below. The kernel programs use the same numbers (enum result in bpf/types.h).
type Result uint16

// Results that are neither an HTTP status nor a gRPC code.
const (
	ResultNone           Result = iota // nothing is known; never an outcome
	ResultConnected                    // protocol tcp: the connection was established
	ResultConnectRefused               // the backend answered the SYN with a RST
	ResultConnectTimeout               // no SYN-ACK within outcome.connectTimeout
	ResultReset                        // the backend closed or reset before a full status line
	ResultTimeout                      // no response within outcome.timeout
	ResultAborted                      // the client left before the response, and before outcome.patience
	ResultUnknown                      // the direction of the responses was never seen; counted, not judged
	ResultAbandoned                    // the client left before the response, after outcome.patience
	ResultRaced                        // the request crossed the backend's closing of a used connection
	ResultUnreachable                  // the network reported that the backend cannot be reached
	ResultH2Refused                    // the backend reset the stream with REFUSED_STREAM
	ResultH2Reset                      // the backend reset the stream with another error code
	resultNamed                        // length of the named part
)

// Numbers of results.
const (
	MaxStatus = 999                     // the largest HTTP status
	GRPCCodes = 17                      // gRPC codes: 0 to 16
	minGRPC   = MaxStatus + 1           // result of gRPC code 0
	MaxResult = minGRPC + GRPCCodes - 1 // the largest result
)

// gRPC codes of which the agent knows more than the name.
const (
	GRPCUnknown           = 2
	GRPCDeadlineExceeded  = 4
	GRPCResourceExhausted = 8
	GRPCInternal          = 13
	GRPCUnavailable       = 14
	GRPCDataLoss          = 15
)

var resultNames = [resultNamed]string{
	ResultNone:           "none",
	ResultConnected:      "connected",
	ResultConnectRefused: "connect-refused",
	ResultConnectTimeout: "connect-timeout",
	ResultReset:          "reset",
	ResultTimeout:        "timeout",
	ResultAborted:        "aborted",
	ResultUnknown:        "unknown",
	ResultAbandoned:      "abandoned",
	ResultRaced:          "raced",
	ResultUnreachable:    "unreachable",
	ResultH2Refused:      "h2-refused",
	ResultH2Reset:        "h2-reset",
}

// grpcNames are the names of the gRPC codes in policies, by code.
var grpcNames = [GRPCCodes]string{
	"grpc-ok", "grpc-cancelled", "grpc-unknown", "grpc-invalid-argument", "grpc-deadline-exceeded", "grpc-not-found",
	"grpc-already-exists", "grpc-permission-denied", "grpc-resource-exhausted", "grpc-failed-precondition", "grpc-aborted",
	"grpc-out-of-range", "grpc-unimplemented", "grpc-internal", "grpc-unavailable", "grpc-data-loss", "grpc-unauthenticated",
}

// ResultGRPC returns the result of a gRPC call that ended with a code: ResultUnknown unless it is 0..16.
func ResultGRPC(code int) Result {
	if code < 0 || code >= GRPCCodes {
		return ResultUnknown
	}
	return minGRPC + Result(code)
}

// NamedResults returns the results that are neither an HTTP status nor a gRPC code, in the order of their numbers.
func NamedResults() []Result {
	all := make([]Result, resultNamed)
	for i := range all {
		all[i] = Result(i)
	}
	return all
}

// Status returns the HTTP status and true, or 0 and false when r is not a status.
func (r Result) Status() (int, bool) {
	if r < 100 || r > MaxStatus {
		return 0, false
	}
	return int(r), true
}

// GRPC returns the gRPC code and true, or 0 and false when r is no gRPC code.
func (r Result) GRPC() (int, bool) {
	if r < minGRPC || r > MaxResult {
		return 0, false
	}
	return int(r - minGRPC), true
}

// String returns the status in digits or the name used in policies and traces.
func (r Result) String() string {
	if r < resultNamed {
		return resultNames[r]
	}
	if code, ok := r.GRPC(); ok {
		return grpcNames[code]
	}
	return strconv.Itoa(int(r))
}

// ParseResult is the inverse of String. It returns an error that lists what is accepted.
func ParseResult(s string) (Result, error) {
	for r, name := range resultNames {
		if s == name && Result(r) != ResultNone {
			return Result(r), nil
		}
	}
	if code := slices.Index(grpcNames[:], s); code >= 0 {
		return ResultGRPC(code), nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 100 && n <= MaxStatus && len(s) == 3 {
		return Result(n), nil
	}
	return ResultNone, fmt.Errorf("%q is neither an HTTP status (100-999) nor one of %s, nor grpc- and the name of a gRPC code",
		s, strings.Join(resultNames[1:], ", "))
}

// ResultSet is a set of results. The zero value is empty. It is comparable and may be copied; its words are laid out
// as the kernel programs read them: bit r of word r/64 is result r.
type ResultSet [16]uint64

// Add adds r to the set. Results above the largest are ignored.
func (s *ResultSet) Add(r Result) {
	if r <= MaxResult {
		s[r/64] |= 1 << (r % 64)
	}
}

// AddRange adds first..last, both included, to the set.
func (s *ResultSet) AddRange(first, last Result) {
	for r := first; r <= last && r <= MaxResult; r++ {
		s.Add(r)
	}
}

// Has reports whether r is in the set.
func (s *ResultSet) Has(r Result) bool {
	return r <= MaxResult && s[r/64]&(1<<(r%64)) != 0
}

// Len returns the number of results in the set.
func (s *ResultSet) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
