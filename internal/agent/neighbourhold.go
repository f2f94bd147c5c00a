package agent

import (
	"maps"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/neighbour"
	"github.com/cbagent/cbagent/internal/policy"
)

// releaseEarly is how long before the deadline of an open circuit its neighbour's entry is held no longer: what is sent to find
// out whether the host is back must not go to the address that it had.
const releaseEarly = 300 * time.Millisecond

// holdNeighbours has the entries of dead neighbours held as long as their circuits reject: without one, packets of host processes
// wait for an address resolution and never get to the programs.
func (a *Agent) holdNeighbours(now int64) {
	n := &a.neighbours
	dead := n.watcher.Dead()
	if !a.cfg.NeighbourHold || len(dead) == 0 && len(n.holds) == 0 {
		return
	}
	a.mu.Lock()
	holds := a.holds(dead, now)
	a.mu.Unlock()
	if maps.Equal(holds, n.holds) {
		return
	}
	n.holds = holds
	until := make(map[neighbour.Key]time.Time, len(holds))
	for k, t := range holds {
		until[k] = time.Time{}
		if t != 0 {
			until[k] = time.Now().Add(time.Duration(t - now))
		}
	}
	n.watcher.SetHolds(until)
}

// holds returns for which of the dead neighbours an entry is to be held, and until when (0: no end): those that have a circuit
// which rejects, and none that is to find out whether the host is back. Callers hold mu.
func (a *Agent) holds(dead map[netip.Addr]neighbour.Key, now int64) map[neighbour.Key]int64 {
	want, probing := map[neighbour.Key]int64{}, map[neighbour.Key]bool{}
	for _, c := range a.circuits {
		if c == nil {
			continue
		}
		for addr := range c.backends {
			k, isDead := dead[addr.Addr()]
			if !isDead || !a.interfaces.Answers(k.Link) {
				continue
			}
			until, rejects, probes := a.rejectsUntil(c, now)
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

// rejectsUntil reports whether a circuit answers its clients, and until when (0: no end), or is about to look for its backend.
func (a *Agent) rejectsUntil(c *circuitState, now int64) (until int64, rejects, probes bool) {
	v := a.dp.Published(c.id)
	switch {
	case v.Monitor, v.Kind != ledger.Open && v.Kind != ledger.ForcedOpen:
		return 0, false, false
	case v.Kind == ledger.Open:
		until = v.Until - int64(releaseEarly)
		probes = now >= until
	case v.Until != 0:
		until = v.Until - int64(releaseEarly)
	}
	// Nobody is answered by a policy that drops; processes of the cgroup are by connect(), before there is a packet.
	with := c.policy.Reject.With
	answers := with == policy.Respond || with == policy.Reset && a.cfg.Connect == ""
	return until, answers && !probes && (until == 0 || now < until), probes
}
