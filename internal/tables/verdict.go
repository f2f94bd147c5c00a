package tables

import (
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
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
// two slots is filled and made visible by one store: the programs see all of it or nothing. They go on when the verdict in
// force is changed in place: one of the same kind and generation, and an open one that becomes the closed one after it.
// Only one goroutine at a time may use it for a circuit.
func (t *Tables) SetVerdict(circuit int, v ledger.Verdict) (anew bool) {
	c := &t.circuits.vals[circuit]
	s := c.slot()
	switch have := t.Published(circuit); {
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
func (t *Tables) Published(circuit int) ledger.Verdict {
	s := t.circuits.vals[circuit].slot()
	return ledger.Verdict{
		Kind: ledger.Kind(s.Kind), Monitor: s.Flags&uint8(bpf.CVerdictFlagVERDICT_MONITOR) != 0,
		Override: s.Flags&uint8(bpf.CVerdictFlagVERDICT_OVERRIDE) != 0, Generation: s.Generation, Until: int64(s.Until),
		Calls: s.Calls, Concurrent: s.Concurrent, RampOver: time.Duration(s.RampOver),
		RampFrom: float64(s.RampFrom) / shareAll, RampTo: float64(s.RampTo) / shareAll, Step: s.Step,
	}
}
