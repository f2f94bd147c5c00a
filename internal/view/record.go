package view

import "time"

// Record is one event with the data that explain it. Its JSON is the format of the history's file, the control socket and
// `cbagent events -o json`.
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
	Source    string    `json:"source,omitempty"` // the source of the decision: operator, mode (the policy's), outcomes; of an event of a circuit
	Reason    string    `json:"reason,omitempty"`
	Value     *float64  `json:"value,omitempty"` // the compared value, durations in seconds; absent when there is none
	Threshold *float64  `json:"threshold,omitempty"`
	Window    *Window   `json:"window,omitempty"` // content of the window at the event
	Step      int       `json:"step"`             // of the backoff

	JitterSeconds  float64    `json:"jitter_seconds,omitempty"` // jitter of the opening
	Until          *time.Time `json:"until,omitempty"`          // absent when nothing ends it
	Connections    uint64     `json:"connections"`              // open to the backend at the time: the affected flows
	InFlight       uint64     `json:"in_flight"`                // requests at the time
	By             string     `json:"by,omitempty"`             // the operator
	Why            string     `json:"why,omitempty"`            // the operator's reason
	Total          uint64     `json:"total,omitempty"`          // of a lease: clients admitted since the maps exist; Value is the number of new ones
	VerdictSeconds float64    `json:"verdict_seconds"`          // from Time to the verdict in the kernel
}

// Kinds of records that the breaker has no event for.
const (
	KindDroppedOverride = "dropped-override" // a backend with an operator's override was removed
	KindLease           = "lease"            // the lease expired, and clients were admitted
)

// Causes of records.
const (
	CauseOutcome   = "outcome"   // outcomes of the backend
	CauseTime      = "time"      // a deadline
	CauseLimits    = "limits"    // the ejection limits
	CauseManual    = "manual"    // an operator
	CauseReload    = "reload"    // new policies
	CauseLease     = "lease"     // the agent itself
	CauseDiscovery = "discovery" // a backend was added or removed
)

// Window is the content of a circuit's window.
type Window struct {
	Outcomes    uint64   `json:"outcomes"`
	Failures    uint64   `json:"failures"`
	Slow        uint64   `json:"slow"`
	FailureRate *float64 `json:"failure_rate"` // null when there are no outcomes
	SlowRate    *float64 `json:"slow_rate"`
	AvgLatency  *float64 `json:"avg_latency_ms"` // null when no latency is known
}
