package tables

import (
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/bpf"
)

// RenewLease lets verdicts reject clients until a moment of Now's clock. After it every circuit admits, forced-open ones
// too.
func (t *Tables) RenewLease(until int64) {
	atomic.StoreUint64(&t.node.vals[0].LeaseUntil, uint64(until))
}

// SetTrace makes the programs send every outcome through the ring, or only those that the agent needs.
func (t *Tables) SetTrace(on bool) { t.setFlag(bpf.CNodeFlagNODE_TRACE, on) }

// SetHostBackends sets whether any backend is an address of the node itself. If so the programs parse both directions on
// every interface.
func (t *Tables) SetHostBackends(on bool) { t.setFlag(bpf.CNodeFlagNODE_HOST_BACKENDS, on) }

// SetNATOnLo sets whether the programs look for connections on lo that NAT changes. If so, lo must accept packets whose
// source is an address of this host.
func (t *Tables) SetNATOnLo(on bool) { t.setFlag(bpf.CNodeFlagNODE_NAT_ON_LO, on) }

func (t *Tables) setFlag(flag bpf.CNodeFlag, on bool) {
	flags := &t.node.vals[0].Flags
	if on {
		atomic.OrUint32(flags, uint32(flag))
	} else {
		atomic.AndUint32(flags, ^uint32(flag))
	}
}

// SetPodsCgroup names the cgroup (v2) under which all pods run, by its id and its depth (the root's is 0). Host processes
// outside it are the node's own. An id of 0 means that there is none.
func (t *Tables) SetPodsCgroup(id uint64, level int) {
	n := &t.node.vals[0]
	atomic.StoreUint32(&n.KubepodsLevel, uint32(level))
	atomic.StoreUint64(&n.Kubepods, id)
}

// NodeCounts are counts of the whole node since its maps were made.
type NodeCounts struct {
	Flows        uint64 // followed connections, now
	MaxFlows     uint64 // limit of Flows
	LostEvents   uint64 // events that found the ring full
	LeaseExpired uint64 // clients admitted only because the lease had expired
}

// NodeCounts reads the counts of the whole node.
func (t *Tables) NodeCounts() NodeCounts {
	n := &t.node.vals[0]
	return NodeCounts{
		Flows: atomic.LoadUint64(&n.FlowCount), MaxFlows: atomic.LoadUint64(&n.FlowMax),
		LostEvents: atomic.LoadUint64(&n.LostEvents), LeaseExpired: atomic.LoadUint64(&n.LeaseExpired),
	}
}

// LostEvents reads NodeCounts.LostEvents alone, for use at every tick.
func (t *Tables) LostEvents() uint64 { return atomic.LoadUint64(&t.node.vals[0].LostEvents) }

// Sweeps returns the number of the last sweep, for Pending; 0 before the first.
func (t *Tables) Sweeps() int64 { return int64(atomic.LoadUint64(&t.node.vals[0].Sweeps)) }
