package unreachable

import (
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
)

// verifyEarly is how long before the deadline of an open circuit its neighbours are verified: the kernel takes 3 s to find out
// that one does not answer.
const verifyEarly = 4 * time.Second

// verify has the kernel verify the neighbours of circuits that probe soon, once for each opening. What a host process gets as
// an answer is to its TCP a sign of life of the backend, so the kernel keeps the neighbour's entry for as long as there are
// clients, and a host that is back with another link-layer address would not be found.
func (r *Reactor) verify(now int64) {
	var doubts []netip.Addr
	verified := map[int]uint32{}
	for c := range r.circuits {
		v := &c.Verdict
		if v.Kind != ledger.Open || v.Monitor || now < v.Until-int64(verifyEarly) {
			continue
		}
		verified[c.ID] = v.Generation
		if r.verified[c.ID] == v.Generation {
			continue
		}
		for addr := range c.Backends {
			doubts = append(doubts, addr.Addr())
		}
	}
	r.verified = verified
	if len(doubts) > 0 {
		r.watcher.Verify(doubts)
	}
}
