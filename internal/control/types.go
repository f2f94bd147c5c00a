// Package control is the agent's local administration: an HTTP API on a unix socket, and its client. The API is versioned by
// the first part of its paths; within a version keys are added, never renamed.
//
//	GET  /v1/status?target=T            Status
//	GET  /v1/events?target=T&last=N     JSON lines of view.Record, oldest first; with &follow=true it goes on
//	GET  /v1/trace?target=T             JSON lines of outcomes as they happen, in the format that cbagent replay reads
//	GET  /v1/policies?target=T          the policies in force with all defaults, in the format of a policy file
//	POST /v1/override                   Override -> Overridden
//
// A target is POLICY, BACKEND or POLICY/BACKEND; none means all. An error has a status of 400 or above and an Error.
package control

import (
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// Status is the state of the agent.
type Status struct {
	Time       time.Time   `json:"time"`
	Agent      AgentInfo   `json:"agent"`
	Policies   []Policy    `json:"policies"`
	Interfaces []Interface `json:"interfaces"`
	Sources    []Source    `json:"sources"`
}

// AgentInfo is the state that belongs to no single policy.
type AgentInfo struct {
	Version        string    `json:"version"`
	Node           string    `json:"node,omitempty"`
	Started        time.Time `json:"started"`
	Ready          bool      `json:"ready"`
	WaitsFor       string    `json:"waits_for,omitempty"` // while it is not ready
	PoliciesLoaded time.Time `json:"policies_loaded"`
	Reloads        uint64    `json:"reloads"`
	ReloadFailures uint64    `json:"reload_failures"`
	ReloadError    string    `json:"reload_error,omitempty"` // of the last attempt: the policies in force are older than their source
	RingEvents     uint64    `json:"ring_events"`
	RingLost       uint64    `json:"ring_events_lost"`
	Flows          uint64    `json:"flows"`
	FlowsLimit     uint64    `json:"flows_limit"`
	Circuits       int       `json:"circuits"`
	CircuitsLimit  int       `json:"circuits_limit"`
	LeaseExpired   uint64    `json:"lease_expired_admissions"`
	RecordsLost    uint64    `json:"records_lost"` // by the history's file

	Lost             map[string]uint64 `json:"lost"`                  // records by the sink that missed them: history, log, notice, kubernetes
	StateError       string            `json:"state_error,omitempty"` // why the state file is not written
	StateBehindSince *time.Time        `json:"state_behind_since,omitempty"`

	VerdictP99Seconds *float64 `json:"verdict_p99_seconds"` // at most; null before the first transition by an outcome
}

// Readiness reports whether policies are in force and interfaces attached.
type Readiness struct {
	Ready    bool   `json:"ready"`
	WaitsFor string `json:"waits_for,omitempty"` // while it is not ready
}

// Policy is a policy and its circuits.
type Policy struct {
	Name              string         `json:"name"`
	Direction         string         `json:"direction"`
	Protocol          string         `json:"protocol"`
	Mode              string         `json:"mode"`
	Scope             string         `json:"scope"`
	Backends          int            `json:"backends"`
	Ejected           int            `json:"ejected"`
	States            map[string]int `json:"states"` // circuits in each state
	DiscoveryComplete bool           `json:"discovery_complete"`
	DiscoveryError    string         `json:"discovery_error,omitempty"`
	Circuits          []Circuit      `json:"circuits"`
}

// Circuit is one circuit.
type Circuit struct {
	Policy    string        `json:"policy"`
	Direction string        `json:"direction"`
	Backend   string        `json:"backend"`   // ADDRESS:PORT, or * for a circuit of the whole policy
	Endpoints []Endpoint    `json:"endpoints"` // behind it
	State     string        `json:"state"`
	Mode      string        `json:"mode"`
	Since     time.Time     `json:"since"`
	Until     *time.Time    `json:"until,omitempty"` // when the state ends by itself
	Step      int           `json:"step"`            // of the backoff
	Openings  uint64        `json:"openings"`
	Overflows uint64        `json:"ejection_overflows"`
	Override  *OverrideInfo `json:"override,omitempty"`
	Probes    *Probes       `json:"probes,omitempty"`  // in half-open
	Yielded   bool          `json:"yielded,omitempty"` // half-open, and not among the ejected: no probe was admitted for long
	Window    view.Window   `json:"window"`

	Connections        uint64            `json:"connections"`
	InFlight           uint64            `json:"in_flight"`
	Admitted           uint64            `json:"admitted"`
	Rejected           map[string]uint64 `json:"rejected"`               // by reason
	RejectedSince      uint64            `json:"rejected_since_closed"`  // of them, since it last left closed; 0 while closed
	WouldReject        map[string]uint64 `json:"would_reject,omitempty"` // in monitor
	Outcomes           map[string]uint64 `json:"outcomes"`
	Responses          map[string]uint64 `json:"responses,omitempty"`       // by status
	OtherProtocols     map[string]uint64 `json:"other_protocols,omitempty"` // http: connections that begin with no request, by what they begin with
	Unjudged           uint64            `json:"unjudged"`
	LatencyP50         *float64          `json:"latency_p50_ms"` // at most, since the backend became known; null without responses
	LatencyP99         *float64          `json:"latency_p99_ms"`
	RateLimitAvailable *int              `json:"rate_limit_available,omitempty"`
	Last               *view.Record      `json:"last,omitempty"` // its last event
}

// AllRejected returns how many clients were rejected, for whatever reason.
func (c *Circuit) AllRejected() uint64 {
	var n uint64
	for _, of := range c.Rejected {
		n += of
	}
	return n
}

// Endpoint is one backend behind a circuit.
type Endpoint struct {
	Address   string `json:"address"`
	Kind      string `json:"kind"`   // service, host, address, learned
	Source    string `json:"source"` // the target of the policy that it was found by
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Node      string `json:"node,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Draining  bool   `json:"draining,omitempty"`
}

// OverrideInfo is an operator's mode that replaces the policy's.
type OverrideInfo struct {
	Mode  string     `json:"mode"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // absent: until it is removed
	By    string     `json:"by"`
	Why   string     `json:"why"`
}

// Probes are the permits of a half-open period.
type Probes struct {
	Used     uint32 `json:"used"`
	InFlight uint32 `json:"in_flight"`
	Calls    int    `json:"calls"` // of how many
	Bad      int    `json:"bad"`
}

// Interface is an interface of the node.
type Interface struct {
	Name     string `json:"name"`
	Index    int    `json:"index"`
	Kind     string `json:"kind,omitempty"`
	Attached bool   `json:"attached"`
	Mode     string `json:"mode,omitempty"` // tcx or clsact
	Wanted   bool   `json:"wanted"`         // it should be attached
	Uplink   bool   `json:"uplink"`
	Why      string `json:"why"`
}

// Source is a host name or a Service that backends come from.
type Source struct {
	Kind        string    `json:"kind"`
	Name        string    `json:"name"`
	Policies    []string  `json:"policies"`
	Answers     int       `json:"answers"`
	Stale       bool      `json:"stale"`
	LastSuccess time.Time `json:"last_success"`
	Error       string    `json:"error,omitempty"`
	Successes   uint64    `json:"successes"`
	Failures    uint64    `json:"failures"`
}

// Actions of an Override.
const (
	ActionOpen    = "open"    // reject all clients
	ActionClose   = "close"   // end an opening now, and an operator's override
	ActionDisable = "disable" // admit all clients and judge nothing
	ActionAuto    = "auto"    // remove an operator's override
)

// Override is an operator's request.
type Override struct {
	Action     string  `json:"action"`
	Target     string  `json:"target"`                // POLICY or POLICY/BACKEND
	ForSeconds float64 `json:"for_seconds,omitempty"` // open and disable; 0: until it is removed
	Reason     string  `json:"reason"`
	By         string  `json:"by,omitempty"` // the user on whose behalf root connects, such as sudo's caller; the kernel reports who connects
}

// Overridden is the result of an Override, for each circuit.
type Overridden struct {
	Changes []Change `json:"changes"`
	Warning string   `json:"warning,omitempty"` // what a restart would lose, because it could not be saved
}

// Change is the result of an Override for one circuit. State and mode may be unchanged.
type Change struct {
	Policy  string     `json:"policy"`
	Backend string     `json:"backend"`
	From    string     `json:"from"`
	To      string     `json:"to"`
	Mode    string     `json:"mode"` // in force from now on
	Until   *time.Time `json:"until,omitempty"`
	Note    string     `json:"note,omitempty"` // why the circuit is unchanged, or changed in another way than requested
}

// Error is the body of an answer with a status of 400 or above.
type Error struct {
	Message string   `json:"error"`
	Nearest []string `json:"nearest,omitempty"` // existing names that are similar
}

// Missed is a line of a stream in place of records for which the reader was too slow.
type Missed struct {
	Missed uint64 `json:"missed"`
}
