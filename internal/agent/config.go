package agent

import (
	"errors"
	"log/slog"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/serve"
)

// ErrNotYet marks the error of an update whose policies have been requested but not received yet.
var ErrNotYet = errors.New("it is tried again")

// Config holds the settings of an agent.
type Config struct {
	Policies   <-chan policy.Update // Run waits for the first update; its error ends Run, unless it is ErrNotYet
	Interfaces ifaces.Spec
	Lease      time.Duration // how long verdicts outlive a dead agent; > 0
	Idle       time.Duration // connections silent for longer are forgotten; > 0
	Seed       uint64        // seed of jitter and ramps
	NodeName   string        // in Kubernetes: which pods are local
	PodsCgroup string        // below which the pods of the node run: a path, cgroup.Auto or cgroup.None
	Kube       kubernetes.Interface
	Datapath   loader.Options
	XDP        loader.XDPMode // on uplinks, for inbound policies that reset or drop; empty: never
	AtEntry    bool           // reject clients where they enter the node, if that is sure
	Connect    string         // cgroup whose processes are rejected at connect(); empty: none
	Lookup     bool           // reject connections to listeners of this host after NAT
	StateDir   string         // where the last events and, with pins, what the kernel does not keep survive a restart; empty: nowhere
	MaxLearned int            // backends of one policy that may be learned from traffic

	NeighbourHold bool // hold an entry for a dead neighbour of an open circuit, so that its clients are answered

	Version string // of the agent
	Serve   serve.Options

	Logger *slog.Logger
	Lost   map[string]func() uint64 // counts of what sinks outside the agent dropped, by their names in view
	Ready  func()                   // called once, when policies are in force and interfaces attached
	Alive  func()                   // called at each turn of the event loop

	// Happened is called for each event of a circuit, with the backends behind it, from one goroutine. The agent does not
	// wait for it; while it does not return, records are neither logged nor notified, and dropped when there are many.
	Happened func(breaker.Event, []discovery.Backend)
}
