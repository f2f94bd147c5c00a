package view

import "time"

// Record is one thing that happened, with all that it takes to explain it. Its JSON is what the history's file, the control
// socket and `cbagent events -o json` hold.
type Record struct {
	Seq       uint64    `json:"seq"`  // one more than that of the record before, also over restarts
	Time      time.Time `json:"time"` // when it was due
	Kind      string    `json:"kind"` // transition, overflow, override, dropped-override, lease
	Policy    string    `json:"policy,omitempty"`
	Direction string    `json:"direction,omitempty"`
	Backend   string    `json:"backend,omitempty"` // * for a circuit of the whole policy
	From      string    `json:"from,omitempty"`    // states
	To        string    `json:"to,omitempty"`
	Mode      string    `json:"mode,omitempty"`   // in force from then on
	Cause     string    `json:"cause"`            // outcome, time, limits, manual, reload, lease, discovery
	Source    string    `json:"source,omitempty"` // who decided: operator, mode (the policy's), outcomes; of an event of a circuit
	Reason    string    `json:"reason,omitempty"`
	Value     *float64  `json:"value,omitempty"` // what was compared, durations in seconds; absent when nothing was
	Threshold *float64  `json:"threshold,omitempty"`
	Window    *Window   `json:"window,omitempty"` // what the circuit remembered when it happened
	Step      int       `json:"step"`             // of the backoff

	JitterSeconds  float64    `json:"jitter_seconds,omitempty"` // what of the opening is jitter
	Until          *time.Time `json:"until,omitempty"`          // absent when nothing ends it
	Connections    uint64     `json:"connections"`              // open to the backend at the time: the flows it affects
	InFlight       uint64     `json:"in_flight"`                // requests at the time
	By             string     `json:"by,omitempty"`             // who did it by hand
	Why            string     `json:"why,omitempty"`            // the reason they gave
	Total          uint64     `json:"total,omitempty"`          // of a lease: clients let through since the kernel counts; Value is those that are new
	VerdictSeconds float64    `json:"verdict_seconds"`          // from Time to the verdict in the kernel
}

// Kinds of records that the breaker has no event for.
const (
	KindDroppedOverride = "dropped-override" // a backend left and took an operator's override with it
	KindLease           = "lease"            // the agent was too late, and clients were let through
)

// Causes of records.
const (
	CauseOutcome   = "outcome"   // what the backend did
	CauseTime      = "time"      // a deadline
	CauseLimits    = "limits"    // the ejection limits
	CauseManual    = "manual"    // an operator's hand
	CauseReload    = "reload"    // new policies
	CauseLease     = "lease"     // the agent itself
	CauseDiscovery = "discovery" // a backend came or left
)

// Window is what a circuit remembers.
type Window struct {
	Outcomes    uint64   `json:"outcomes"`
	Failures    uint64   `json:"failures"`
	Slow        uint64   `json:"slow"`
	FailureRate *float64 `json:"failure_rate"` // null when there are no outcomes
	SlowRate    *float64 `json:"slow_rate"`
	AvgLatency  *float64 `json:"avg_latency_ms"` // null when no latency is known
}
