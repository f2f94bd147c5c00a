package tables

import "github.com/cbagent/cbagent/internal/bpf"

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

// RejectNames are what a client got, in the order of Totals.Rejected's second index.
var RejectNames = [rejectCount]string{"respond", "reset", "drop"}
