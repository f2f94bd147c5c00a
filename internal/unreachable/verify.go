package unreachable

import (
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
)

// verifyEarly is how long before the deadline of an open circuit its neighbours are verified: the kernel takes 3 s to find out
// that one does not answer.
const verifyEarly = 4 * time.Second

// verify makes the kernel verify the neighbours of circuits that probe soon, once for each opening. An answer of the
// programs confirms the neighbour's entry, because the TCP of the host process takes it for a packet of the backend. So the
// kernel would keep the entry as long as there are clients, and would not find a host that is back with another link-layer
// address.
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
