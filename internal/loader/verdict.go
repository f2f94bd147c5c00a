package loader

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
)

// circuit is what the programs and the agent keep of a circuit, slot one of its two verdicts.
type (
	circuit bpf.CCircuit
	slot    bpf.CVerdict
)

const shareAll = 1 << bpf.CSizeSHARE_BITS

// The programs' numbers of kinds are the ledger's.
const (
	_ = -uint(ledger.Closed ^ ledger.Kind(bpf.CVerdictKindVERDICT_CLOSED))
	_ = -uint(ledger.Open ^ ledger.Kind(bpf.CVerdictKindVERDICT_OPEN))
	_ = -uint(ledger.ForcedOpen ^ ledger.Kind(bpf.CVerdictKindVERDICT_FORCED_OPEN))
	_ = -uint(ledger.Disabled ^ ledger.Kind(bpf.CVerdictKindVERDICT_DISABLED))
	_ = -uint(ledger.Kinds ^ ledger.Kind(bpf.CVerdictKindVERDICT_MAX))
)

func verdictFlags(v *ledger.Verdict) uint8 {
	return boolByte(v.Monitor)*uint8(bpf.CVerdictFlagVERDICT_MONITOR) | boolByte(v.Override)*uint8(bpf.CVerdictFlagVERDICT_OVERRIDE)
}

// SetVerdict puts a verdict in force, and reports whether its counts (Progress) begin at 0. They do when the idle one of
// two slots is filled and made visible by one store: the programs see all of it or nothing. They go on when the verdict
// in force is changed in place: one of the same kind and generation, and an open one that becomes the closed one after it.
// One goroutine at a time for a circuit.
func (d *Datapath) SetVerdict(circuit int, v ledger.Verdict) (anew bool) {
	c := &d.circuits.vals[circuit]
	s := c.slot()
	switch have := d.Published(circuit); {
	case v == have:
	case v.Kind == have.Kind && v.Generation == have.Generation:
		s.update(&v)
	case have.Kind == ledger.Open && v.Kind == ledger.Closed && v.Generation == have.Generation+1:
		s.close(&v)
	default:
		c.fill(&v)
		return true
	}
	return false
}

// fill writes a verdict into the idle slot and publishes it.
func (c *circuit) fill(v *ledger.Verdict) {
	old := atomic.LoadUint64(&c.Published)
	c.Slots[(old+1)&1] = bpf.CVerdict{
		Kind: uint8(v.Kind), Flags: verdictFlags(v), Generation: v.Generation, Until: uint64(v.Until),
		Calls: v.Calls, Concurrent: v.Concurrent, RampOver: uint64(v.RampOver),
		RampFrom: uint32(v.RampFrom * shareAll), RampTo: uint32(v.RampTo * shareAll), Step: v.Step,
	}
	atomic.StoreUint64(&c.Published, old+1)
}

// update changes in place what may change without a new generation, also when the programs have moved on to half-open by
// themselves: they count permits and outcomes since. Each field changes by itself; while a ramp becomes another, a client
// may be admitted by a mixture of both.
func (s *slot) update(v *ledger.Verdict) {
	s.Flags = verdictFlags(v)
	s.Step = v.Step
	atomic.StoreUint64(&s.Until, uint64(v.Until))
	atomic.StoreUint32(&s.Calls, v.Calls)
	atomic.StoreUint32(&s.Concurrent, v.Concurrent)
	atomic.StoreUint32(&s.RampFrom, uint32(v.RampFrom*shareAll))
	atomic.StoreUint32(&s.RampTo, uint32(v.RampTo*shareAll))
	// Last: the programs look at RampOver to choose between ramp and permits.
	atomic.StoreUint64(&s.RampOver, uint64(v.RampOver))
}

// close makes of an open verdict the closed one after it, with the next generation. An open verdict without permits has
// admitted and judged under that generation since its deadline: in the idle slot its counts would begin at 0 again. What
// ends between the two stores is not judged.
func (s *slot) close(v *ledger.Verdict) {
	s.Kind, s.Step = uint8(ledger.Closed), v.Step
	s.Flags = verdictFlags(v)
	atomic.StoreUint32(&s.Generation, v.Generation)
	atomic.StoreUint64(&s.Until, 0)
	atomic.StoreUint32(&s.Calls, 0)
	atomic.StoreUint32(&s.Concurrent, 0)
	atomic.StoreUint64(&s.RampOver, 0)
	atomic.StoreUint32(&s.RampFrom, 0)
	atomic.StoreUint32(&s.RampTo, 0)
}

// Published returns the verdict that is in force.
func (d *Datapath) Published(circuit int) ledger.Verdict {
	s := d.circuits.vals[circuit].slot()
	return ledger.Verdict{
		Kind: ledger.Kind(s.Kind), Monitor: s.Flags&uint8(bpf.CVerdictFlagVERDICT_MONITOR) != 0,
		Override: s.Flags&uint8(bpf.CVerdictFlagVERDICT_OVERRIDE) != 0, Generation: s.Generation, Until: int64(s.Until),
		Calls: s.Calls, Concurrent: s.Concurrent, RampOver: time.Duration(s.RampOver),
		RampFrom: float64(s.RampFrom) / shareAll, RampTo: float64(s.RampTo) / shareAll, Step: s.Step,
	}
}

// slot returns the slot of the verdict that is in force.
func (c *circuit) slot() *slot { return (*slot)(&c.Slots[atomic.LoadUint64(&c.Published)&1]) }

// SetPolicy makes the circuit follow the policy at an index of PutPolicy.
func (d *Datapath) SetPolicy(circuit, policy int) {
	atomic.StoreUint32(&d.targets.vals[circuit].Circuit, uint32(circuit))
	d.setPolicy(circuit, uint32(policy))
}

func (d *Datapath) setPolicy(circuit int, policy uint32) {
	atomic.StoreUint32(&d.circuits.vals[circuit].Policy, policy)
	atomic.StoreUint32(&d.targets.vals[circuit].Policy, policy)
}

// noPolicy is an index that no policy has.
const noPolicy = 0xffffffff

// Release lets go of a circuit: nobody is rejected, nothing judged, and the next Sweep forgets its connections.
func (d *Datapath) Release(circuit int) {
	d.SetVerdict(circuit, ledger.Verdict{Kind: ledger.Disabled, Generation: 1})
	d.setPolicy(circuit, noPolicy)
}

// Connections is Totals.Connections alone.
func (d *Datapath) Connections(circuit int) uint64 {
	return atomic.LoadUint64(&d.targets.vals[circuit].Connections)
}

// Owner returns what ResetCircuit was last told.
func (d *Datapath) Owner(circuit int) uint64 { return d.circuits.vals[circuit].Owner }

// ResetCircuit clears all that a circuit remembers, before it is used for another backend. owner is any number, kept for
// the agent that comes after.
func (d *Datapath) ResetCircuit(index int, owner uint64) error {
	if index < 0 || index >= len(d.circuits.vals) {
		return fmt.Errorf("circuit %d: the table has %d places: raise --max-circuits", index, len(d.circuits.vals))
	}
	d.targets.vals[index] = bpf.CTarget{Circuit: uint32(index)}
	d.circuits.vals[index] = circuit{Owner: owner}
	return nil
}

// Progress reads the counts of the verdict in force. They are read one after the other, while the programs count on:
// they are of one moment unless outcomes come faster than that.
func (d *Datapath) Progress(circuit int) ledger.Progress {
	s := d.circuits.vals[circuit].slot()
	p := s.progress()
	for range 4 {
		again := s.progress()
		if again == p {
			break
		}
		p = again
	}
	return p
}

func (s *slot) progress() ledger.Progress {
	judged := atomic.LoadUint64(&s.Judged)
	permits := atomic.LoadUint64(&s.Permits)
	return ledger.Progress{
		Judged: judged & (1<<judgedBits - 1), Events: judged >> judgedBits,
		Failures: atomic.LoadUint64(&s.Failures), Slow: atomic.LoadUint64(&s.Slow),
		Duration: time.Duration(atomic.LoadUint64(&s.Duration)),
		Permits:  uint32(permits), InFlight: uint32(permits >> 32),
	}
}

// Judged is Progress's first two counts alone, for the look at every tick.
func (d *Datapath) Judged(circuit int) (outcomes, events uint64) {
	judged := atomic.LoadUint64(&d.circuits.vals[circuit].slot().Judged)
	return judged & (1<<judgedBits - 1), judged >> judgedBits
}

// Pending returns when the oldest unanswered request of the circuit's generation was sent, as the given sweep saw it.
func (d *Datapath) Pending(circuit int, sweep int64) (since int64, ok bool) {
	c := &d.circuits.vals[circuit]
	if int64(atomic.LoadUint64(&c.PendingSweep)) != sweep {
		return 0, false
	}
	return int64(atomic.LoadUint64(&c.PendingSince)), true
}

// Generation returns the generation that outcomes of now are judged in.
func (d *Datapath) Generation(circuit int, now int64) uint32 {
	s := d.circuits.vals[circuit].slot()
	if s.Kind == uint8(ledger.Open) && now >= int64(s.Until) {
		return s.Generation + 1
	}
	return s.Generation
}
