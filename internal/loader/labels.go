package loader

import (
	"errors"

	"github.com/cilium/ebpf"
)

// Rejections is the number of reasons to reject a client.
const Rejections = int(bpfReasonREASON_MAX - bpfReasonREASON_OPEN)

// Rejection is why a client was rejected: an index of Totals.Rejected and of PolicySettings.Answers.
type Rejection int

// Rejections, as X-Cbagent-Reason names them.
const (
	RejectedOpen = Rejection(iota)
	RejectedForcedOpen
	RejectedHalfOpen
	RejectedConnectionLimit
	RejectedRequestLimit
	RejectedRateLimit
)

// String returns the name used in answers, metrics and logs.
func (r Rejection) String() string { return reasonNames[int(bpfReasonREASON_OPEN)+int(r)] }

var hookNames = []string{"egress", "ingress", "loopback", "xdp", "connect", "lookup"}

var actionNames = []string{"pass", "respond", "ack", "swallow", "reset", "drop"}

var reasonNames = []string{
	"foreign", "short", "fragment", "ip-options", "extension-header", "remote", "untracked", "flow", "admitted",
	"probe", "monitored", "lease-expired", "exempt", "table-full", "answered", "error", "out-of-sequence",
	"open", "forced-open", "half-open", "connection-limit", "request-limit", "rate-limit",
}

// RejectNames are what a client got, in the order of Totals.Rejected's second index.
var RejectNames = [rejectCount]string{"respond", "reset", "drop"}

// Opening is what a connection of an http policy begins with that is no request: an index of Totals.Openings.
type Opening int

// Openings. After a PROXY protocol header a request may follow, which is observed.
const (
	OpeningTLS   = Opening(bpfOpeningOPENING_TLS)
	OpeningHTTP2 = Opening(bpfOpeningOPENING_HTTP2)
	OpeningPROXY = Opening(bpfOpeningOPENING_PROXY)
	OpeningOther = Opening(bpfOpeningOPENING_OTHER)
	Openings     = int(bpfOpeningOPENING_MAX) // length
)

// String returns the name used in metrics and the status.
func (o Opening) String() string { return openingNames[o] }

var openingNames = [Openings]string{"tls", "http2", "proxy", "other"}

func isDone(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }
