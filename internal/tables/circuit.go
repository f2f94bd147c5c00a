package tables

import (
	"fmt"
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
)

// circuit is a circuit's part of the maps. slot is one of its two verdicts.
type (
	circuit bpf.CCircuit
	slot    bpf.CVerdict
)

// slot returns the slot of the verdict that is in force.
func (c *circuit) slot() *slot { return (*slot)(&c.Slots[atomic.LoadUint64(&c.Published)&1]) }

// SetPolicy makes the circuit follow the policy at an index of PutPolicy.
func (t *Tables) SetPolicy(circuit, policy int) {
	atomic.StoreUint32(&t.targets.vals[circuit].Circuit, uint32(circuit))
	t.setPolicy(circuit, uint32(policy))
}

func (t *Tables) setPolicy(circuit int, policy uint32) {
	atomic.StoreUint32(&t.circuits.vals[circuit].Policy, policy)
	atomic.StoreUint32(&t.targets.vals[circuit].Policy, policy)
}

// noPolicy is an index that no policy has.
const noPolicy = 0xffffffff

// Release frees a circuit: it admits all, judges nothing, and the next Sweep removes its connections.
func (t *Tables) Release(circuit int) {
	t.SetVerdict(circuit, ledger.Verdict{Kind: ledger.Disabled, Generation: 1})
	t.setPolicy(circuit, noPolicy)
}

// Connections is Totals.Connections alone.
func (t *Tables) Connections(circuit int) uint64 {
	return atomic.LoadUint64(&t.targets.vals[circuit].Connections)
}

// Owner returns the owner that the last ResetCircuit stored.
func (t *Tables) Owner(circuit int) uint64 { return t.circuits.vals[circuit].Owner }

// ResetCircuit clears the counts and the state of a circuit before it is used for another backend. owner is any number,
// which is stored for the next agent.
func (t *Tables) ResetCircuit(index int, owner uint64) error {
	if index < 0 || index >= len(t.circuits.vals) {
		return fmt.Errorf("circuit %d: the table has %d places: raise --max-circuits", index, len(t.circuits.vals))
	}
	t.targets.vals[index] = bpf.CTarget{Circuit: uint32(index)}
	t.circuits.vals[index] = circuit{Owner: owner}
	return nil
}

// Pending returns when the oldest unanswered request of the circuit's generation was sent, as the given sweep saw it.
func (t *Tables) Pending(circuit int, sweep int64) (since int64, ok bool) {
	c := &t.circuits.vals[circuit]
	if int64(atomic.LoadUint64(&c.PendingSweep)) != sweep {
		return 0, false
	}
	return int64(atomic.LoadUint64(&c.PendingSince)), true
}

// Generation returns the generation that outcomes of now are judged in.
func (t *Tables) Generation(circuit int, now int64) uint32 {
	s := t.circuits.vals[circuit].slot()
	if s.Kind == uint8(ledger.Open) && now >= int64(s.Until) {
		return s.Generation + 1
	}
	return s.Generation
}
