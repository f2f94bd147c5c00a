package loader

import (
	"errors"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Rejections is the number of reasons to reject a client.
const Rejections = int(bpf.CReasonREASON_MAX - bpf.CReasonREASON_OPEN)

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
func (r Rejection) String() string { return reasonNames[int(bpf.CReasonREASON_OPEN)+int(r)] }

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
	OpeningTLS   = Opening(bpf.COpeningOPENING_TLS)
	OpeningHTTP2 = Opening(bpf.COpeningOPENING_HTTP2)
	OpeningPROXY = Opening(bpf.COpeningOPENING_PROXY)
	OpeningOther = Opening(bpf.COpeningOPENING_OTHER)
	Openings     = int(bpf.COpeningOPENING_MAX) // length
)

// String returns the name used in metrics and the status.
func (o Opening) String() string { return openingNames[o] }

var openingNames = [Openings]string{"tls", "http2", "proxy", "other"}

func isDone(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }
