package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/attach"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/places"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/unreachable"
)

// datapath is the part of loader.Datapath that the agent uses.
type datapath interface {
	attach.Datapath
	attach.EarlyDatapath
	attach.EntryDatapath
	attach.PodsDatapath
	ledger.Kernel
	places.AnswerKernel
	places.CircuitKernel
	places.PolicyKernel
	unreachable.Recorder
	backendTables
	counters
	adoption

	NextEvent(deadline time.Time) (ledger.Event, error)
	RenewLease(until int64)
	SetTrace(on bool)
	Sweep(idle time.Duration) (loader.SweepResult, error)
	Pending(circuit int, sweep int64) (since int64, ok bool)
	Prune() error
	Close() error
}

// backendTables are the tables of policies, backends and networks.
type backendTables interface {
	PutPolicy(index int, s tables.PolicySettings) error
	SetPolicy(circuit, policy int)
	ResetCircuit(circuit int, owner uint64) error
	PutBackend(b tables.Backend, circuit int, flags tables.BackendFlags) error
	RemoveBackend(b tables.Backend) error
	SetHostBackends(on bool)
	SetNetworks(all []tables.Network) error
}

// counters are the counts of the programs, for the snapshot.
type counters interface {
	Totals(circuit int) tables.Totals
	Openings(circuit int) (counts [tables.Openings]uint64, requests uint64)
	Statuses() ([]tables.StatusCount, error)
	NodeCounts() tables.NodeCounts
	Packets() ([]tables.PacketCounts, error)
}

// adoption gives access to what a former agent left in the kernel.
type adoption interface {
	Adopted() bool
	AdoptedBackends() []tables.AdoptedBackend
	UsedTables() (policies, answers map[int]bool)
	Owner(circuit int) uint64
}

// leaseKernel is the part of the datapath that a lease uses.
type leaseKernel struct{ datapath }

// LeaseExpired returns how many clients were admitted because the lease had expired.
func (k leaseKernel) LeaseExpired() uint64 { return k.NodeCounts().LeaseExpired }
