package agent

import "github.com/cbagent/cbagent/internal/ledger"

// noteRepairs counts and logs what was recovered from the programs' counts.
func (a *Agent) noteRepairs(repairs []ledger.Repair) {
	for i := range repairs {
		r := &repairs[i]
		c := a.circuits[r.Account.Place()]
		a.recovered += r.Lost
		attrs := []any{"policy", c.policy.Name, "backend", c.name, "lost", r.Events, "outcomes", r.Lost, "failures", r.Failures,
			"slow", r.Slow}
		if r.Probes {
			attrs = append(attrs, "permits", r.Permits, "known_permits", r.KnownPermits)
		}
		a.log.Warn("events were lost and are recovered from the counters", attrs...)
		if r.Unexplained > 0 {
			a.log.Error("events recovered although the ring lost none", "policy", c.policy.Name, "backend", c.name,
				"events", r.Unexplained)
		}
	}
}
