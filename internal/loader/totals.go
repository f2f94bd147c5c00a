package loader

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Totals are what the programs counted for a circuit since it was reset.
type Totals struct {
	Connections uint64 // open or being opened now
	InFlight    uint64 // requests now
	Admitted    uint64 // requests (http) or connections (tcp)
	Probes      uint64
	Unjudged    uint64
	Rejected    [Rejections][rejectCount]uint64 // by rejection and by what the client got
	Would       [Rejections]uint64              // in monitor: by rejection
	Outcomes    [OutcomeClasses]uint64          // by named result, then 1xx..9xx
	Openings    [Openings]uint64                // connections that begin with something else than a request, by Opening
	Latency     [LatencyBuckets]uint64          // responses; bucket i took less than LatencyBound(i)
	LatencySum  time.Duration
	RateNext    int64 // when the rate limiter's next permission would be due at an even pace
}

// RejectedTotal returns how many clients were rejected, for whatever reason.
func (t *Totals) RejectedTotal() uint64 {
	var n uint64
	for i := range t.Rejected {
		for _, of := range t.Rejected[i] {
			n += of
		}
	}
	return n
}

// OutcomeClasses is the length of Totals.Outcomes: the results below 8, then 1xx..9xx.
const (
	OutcomeClasses = len(bpf.CCircuit{}.Outcomes)
	LatencyBuckets = len(bpf.CCircuit{}.Latency)
	rejectCount    = int(bpf.CRejectREJECT_MAX)
)

// LatencyBound is the upper bound of a bucket of Totals.Latency; the last has none.
func LatencyBound(bucket int) time.Duration { return time.Duration(1<<bpf.CSizeLATENCY_BITS) << bucket }

// Totals reads the counts of a circuit, one after the other.
func (d *Datapath) Totals(circuit int) Totals {
	target, c := &d.targets.vals[circuit], &d.circuits.vals[circuit]
	t := Totals{
		Connections: atomic.LoadUint64(&target.Connections), InFlight: atomic.LoadUint64(&c.Requests),
		Admitted: atomic.LoadUint64(&c.Admitted), Probes: atomic.LoadUint64(&c.Probes),
		Unjudged: atomic.LoadUint64(&c.Unjudged), LatencySum: time.Duration(atomic.LoadUint64(&c.LatencySum)),
		RateNext: int64(atomic.LoadUint64(&target.RateNext)),
	}
	for i := range t.Rejected {
		for j := range t.Rejected[i] {
			t.Rejected[i][j] = atomic.LoadUint64(&c.Rejected[i][j])
		}
		t.Would[i] = atomic.LoadUint64(&c.Would[i])
	}
	for i := range t.Outcomes {
		t.Outcomes[i] = atomic.LoadUint64(&c.Outcomes[i])
	}
	t.Openings, _ = d.Openings(circuit)
	for i := range t.Latency {
		t.Latency[i] = atomic.LoadUint64(&c.Latency[i])
	}
	return t
}

// Openings reads Totals.Openings and Totals.Admitted alone, for the look at many circuits.
func (d *Datapath) Openings(circuit int) (counts [Openings]uint64, admitted uint64) {
	c := &d.circuits.vals[circuit]
	for i := range counts {
		counts[i] = atomic.LoadUint64(&c.Openings[i])
	}
	return counts, atomic.LoadUint64(&c.Admitted)
}

// StatusCount is how often a circuit's backend answered with a status.
type StatusCount struct {
	Circuit int
	Status  int
	Count   uint64
}

// Statuses reads the responses of all circuits by status.
func (d *Datapath) Statuses() ([]StatusCount, error) {
	var all []StatusCount
	keys := make([]bpf.CStatusKey, 1024)
	vals := make([]uint64, 1024)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := d.objs.Statuses.BatchLookup(&cursor, keys, vals, nil)
		for i := range n {
			all = append(all, StatusCount{Circuit: int(keys[i].Circuit), Status: int(keys[i].Status), Count: vals[i]})
		}
		if isDone(err) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("read counts by status: %w", err)
		}
	}
}

// ForgetStatuses removes the counts by status of circuits that are no longer used.
func (d *Datapath) ForgetStatuses(circuits map[int]bool) error {
	all, err := d.Statuses()
	if err != nil {
		return err
	}
	for _, s := range all {
		if !circuits[s.Circuit] {
			continue
		}
		if err := d.objs.Statuses.Delete(bpf.CStatusKey{Circuit: uint32(s.Circuit), Status: uint32(s.Status)}); err != nil && !isDone(err) {
			return fmt.Errorf("remove counts by status: %w", err)
		}
	}
	return nil
}

// NodeCounts are counts of the whole node.
type NodeCounts struct {
	Flows        uint64 // followed connections
	MaxFlows     uint64
	LostEvents   uint64 // events that found the ring full
	LeaseExpired uint64 // admitted only because the lease had run out
}

// NodeCounts reads the counts of the whole node.
func (d *Datapath) NodeCounts() NodeCounts {
	n := &d.node.vals[0]
	return NodeCounts{
		Flows: atomic.LoadUint64(&n.FlowCount), MaxFlows: atomic.LoadUint64(&n.FlowMax),
		LostEvents: atomic.LoadUint64(&n.LostEvents), LeaseExpired: atomic.LoadUint64(&n.LeaseExpired),
	}
}

// LostEvents is NodeCounts.LostEvents alone, for the look at every tick.
func (d *Datapath) LostEvents() uint64 { return atomic.LoadUint64(&d.node.vals[0].LostEvents) }

// PacketCounts is how many packets of a hook met an action for a reason.
type PacketCounts struct {
	Hook    string
	Action  string
	Reason  string
	Packets uint64
}

// Packets reads the counters of all hooks. Those that are zero are left out.
func (d *Datapath) Packets() ([]PacketCounts, error) {
	var all []PacketCounts
	for hook := range hookNames {
		var cpus []bpf.CPacketCounts
		if err := d.objs.Packets.Lookup(uint32(hook), &cpus); err != nil {
			return nil, fmt.Errorf("read packet counts of %s: %w", hookNames[hook], err)
		}
		for a := range actionNames {
			for r := range reasonNames {
				var n uint64
				for i := range cpus {
					n += cpus[i].N[a][r]
				}
				if n > 0 {
					all = append(all, PacketCounts{hookNames[hook], actionNames[a], reasonNames[r], n})
				}
			}
		}
	}
	return all, nil
}
