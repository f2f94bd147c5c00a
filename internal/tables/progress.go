package tables

import (
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
)

// Progress reads the counts of the verdict in force. It reads them one after the other while the programs count, so they
// are of one moment unless outcomes come faster than that.
func (t *Tables) Progress(circuit int) ledger.Progress {
	s := t.circuits.vals[circuit].slot()
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

// Judged returns the first two counts of Progress alone, for use at every tick.
func (t *Tables) Judged(circuit int) (outcomes, events uint64) {
	judged := atomic.LoadUint64(&t.circuits.vals[circuit].slot().Judged)
	return judged & (1<<judgedBits - 1), judged >> judgedBits
}
