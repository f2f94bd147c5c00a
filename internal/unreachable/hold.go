package unreachable

import (
	"maps"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/neighbour"
)

// releaseEarly is how long before the deadline of an open circuit its neighbour's entry is released: the probes must not go
// to the link-layer address that the host had before.
const releaseEarly = 300 * time.Millisecond

// holdEntries holds the entries of dead neighbours as long as their circuits reject. Without an entry, packets of host
// processes wait for an address resolution and do not reach the programs.
func (r *Reactor) holdEntries(now int64) {
	dead := r.watcher.Dead()
	if !r.hold || len(dead) == 0 && len(r.holds) == 0 {
		return
	}
	holds := r.wantedHolds(dead, now)
	if maps.Equal(holds, r.holds) {
		return
	}
	r.holds = holds
	until := make(map[neighbour.Key]time.Time, len(holds))
	for k, t := range holds {
		until[k] = time.Time{}
		if t != 0 {
			until[k] = time.Now().Add(time.Duration(t - now))
		}
	}
	r.watcher.SetHolds(until)
}

// wantedHolds returns the dead neighbours whose entries are to be held, and until when (0: no end). These have a circuit
// that rejects, and none that is about to probe its backend.
func (r *Reactor) wantedHolds(dead map[netip.Addr]neighbour.Key, now int64) map[neighbour.Key]int64 {
	want, probing := map[neighbour.Key]int64{}, map[neighbour.Key]bool{}
	for c := range r.circuits {
		for addr := range c.Backends {
			k, isDead := dead[addr.Addr()]
			if !isDead || !r.answers(k.Link) {
				continue
			}
			until, rejects, probes := rejectsUntil(&c, now)
			if probes {
				probing[k] = true
			}
			if !rejects {
				continue
			}
			if old, ok := want[k]; !ok || old == 0 || until != 0 && until < old {
				want[k] = until
			}
		}
	}
	maps.DeleteFunc(want, func(k neighbour.Key, _ int64) bool { return probing[k] })
	return want
}

// rejectsUntil reports whether a circuit answers its clients, and until when (0: no end), or is about to probe its backend.
func rejectsUntil(c *Circuit, now int64) (until int64, rejects, probes bool) {
	v := &c.Verdict
	switch {
	case v.Monitor, v.Kind != ledger.Open && v.Kind != ledger.ForcedOpen:
		return 0, false, false
	case v.Kind == ledger.Open:
		until = v.Until - int64(releaseEarly)
		probes = now >= until
	case v.Until != 0:
		until = v.Until - int64(releaseEarly)
	}
	return until, c.Answers && !probes && (until == 0 || now < until), probes
}
