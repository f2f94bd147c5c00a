package view

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
)

// Snapshot is the state of an agent at a moment. Circuits are read one after the other, each at once: the moments of two
// circuits may differ by some milliseconds.
type Snapshot struct {
	At    time.Time
	Clock int64 // At on the kernel's clock: breaker.Time and tables.Now

	Agent      Agent
	Policies   []Policy // in file order
	Interfaces []Interface
	Packets    []tables.PacketCounts // without zero counts
	Sources    []discovery.SourceStatus
	Node       tables.NodeCounts
}

// Wall returns a moment of the kernel's clock as time of day, the zero Time for breaker.Never.
func (s *Snapshot) Wall(t breaker.Time) time.Time {
	if t == breaker.Never {
		return time.Time{}
	}
	return s.At.Add(time.Duration(int64(t) - s.Clock))
}

// Agent is the state that belongs to no single policy.
type Agent struct {
	Version string
	Node    string // its name in Kubernetes, empty elsewhere
	Started time.Time
	Ready   bool // policies are in force and interfaces attached

	WaitsFor string // while it is not ready

	PoliciesLoaded time.Time // when the present ones were put in force
	Reloads        uint64    // attempts
	ReloadFailures uint64
	ReloadError    string // of the last attempt; empty when it succeeded

	RingEvents      uint64            // read from the ring
	Recovered       uint64            // of the lost events, recovered from the counters
	Records         uint64            // added to the history so far
	Lost            map[string]uint64 // records that a sink missed, by its name: see the constants
	StateBehind     time.Time         // since when the state file is out of date; zero: it is up to date, or there is none
	StateErr        error             // why it is; nil: it is being written
	StateFailures   uint64            // attempts to write it
	Readers         int               // of events, now
	ReadersRejected uint64            // of events, rejected because there were too many
	Tracers         int               // readers of traces, now
	ReaderDropped   uint64            // lines and records that slow readers missed
	Servers         []Server
	CircuitsMax     int
	Sweep           loader.SweepResult
	Verdicts        Histogram // from the decisive outcome to the verdict in the kernel
}

// Server holds the connections of one of the agent's servers.
type Server struct {
	Name        string // metrics or control
	Connections int    // now
	Evicted     uint64 // closed while they waited for a request, to make room for others
	Rejected    uint64 // answered and closed at once, because all others were busy
}

// Sinks of records, by which Agent.Lost counts.
const (
	SinkHistory    = "history"    // the history's file
	SinkLog        = "log"        // lines of the log
	SinkNotice     = "notice"     // records that were neither logged nor notified
	SinkKubernetes = "kubernetes" // events of the Kubernetes API
)

// Policy is a policy in force.
type Policy struct {
	*policy.Policy
	Complete     bool  // each source of discovery has answered
	DiscoveryErr error // the present errors of its sources
	Known        int   // backends
	Ejected      int   // circuits open, half-open or forced open, less those half-open ones that are idle
	Circuits     []Circuit
}

// Circuit is one circuit with the kernel's counts.
type Circuit struct {
	ID          int
	Name        string // the backend's address and port, or * for a circuit of the whole policy
	Backends    []discovery.Backend
	Status      breaker.Status
	Metric      breaker.Metric
	Totals      tables.Totals
	Progress    ledger.Progress
	Statuses    []Status
	Transitions []Transition
	RejectedAt  uint64  // clients rejected in all when it last left closed
	Last        *Record // its last event; nil when there is none since the agent's start
}

// Status is the number of responses with a status.
type Status struct {
	Code  int
	Count uint64
}

// Transition is the number of transitions between two states for a reason.
type Transition struct {
	From, To breaker.State
	Reason   breaker.Reason
	Count    uint64
}

// Interface is an interface with the agent's decision on it.
type Interface struct {
	ifaces.Pick
	Attached bool
	Mode     string // tcx or clsact
	Pending  bool   // it should be attached, but attaching fails; tried again ten times a second
}
