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

// Snapshot is an agent at a moment. Circuits are read one after the other, each at once: two of them may be some
// milliseconds apart.
type Snapshot struct {
	At    time.Time
	Clock int64 // At on the kernel's clock: breaker.Time and tables.Now

	Agent      Agent
	Policies   []Policy // in file order
	Interfaces []Interface
	Packets    []tables.PacketCounts // what was counted, zeros left out
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

// Agent is what concerns no single policy.
type Agent struct {
	Version string
	Node    string // its name in Kubernetes, empty elsewhere
	Started time.Time
	Ready   bool // policies are in force and interfaces attached

	WaitsFor string // while it is not ready

	PoliciesLoaded time.Time // when those in force were taken over
	Reloads        uint64    // attempts
	ReloadFailures uint64
	ReloadError    string // of the last attempt; empty when it succeeded

	RingEvents      uint64            // read from the ring
	Recovered       uint64            // of those lost, put into windows from the totals
	Records         uint64            // in the history, ever
	Lost            map[string]uint64 // records that a sink missed, by its name: see the constants
	StateBehind     time.Time         // since when the state file lacks something; zero: it is whole, or there is none
	StateErr        error             // why it does; nil: it is being written
	StateFailures   uint64            // attempts to write it
	Readers         int               // of events, now
	ReadersRejected uint64            // of events, for whom there was no room
	Tracers         int               // readers of traces, now
	ReaderDropped   uint64            // what was not handed to readers because they were slow
	Servers         []Server
	CircuitsMax     int
	Sweep           loader.SweepResult
	Verdicts        Histogram // from the outcome that decided to the verdict in the kernel
}

// Server is what clients have open at one of the agent's servers.
type Server struct {
	Name        string // metrics or control
	Connections int    // now
	Evicted     uint64 // closed while they waited for a request, to make room for others
	Rejected    uint64 // answered and closed at once, since all others were busy
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
	Complete     bool  // discovery has heard from every source
	DiscoveryErr error // what is wrong with its sources now
	Known        int   // backends
	Ejected      int   // circuits open, half-open or forced open, less those half-open ones that are idle
	Circuits     []Circuit
}

// Circuit is one circuit and what the kernel counted for it.
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
	Last        *Record // what happened to it last; nil when nothing did since the agent's start
}

// Status is how often a status was answered.
type Status struct {
	Code  int
	Count uint64
}

// Transition is how often one state was followed by another for a reason.
type Transition struct {
	From, To breaker.State
	Reason   breaker.Reason
	Count    uint64
}

// Interface is an interface that the agent has decided on.
type Interface struct {
	ifaces.Pick
	Attached bool
	Mode     string // tcx or clsact
	Pending  bool   // it should be attached, but attaching fails; tried again ten times a second
}
