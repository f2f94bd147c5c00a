package metrics

import (
	"cmp"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/view"
)

// sum exports all circuits of a policy as one. The series of states count the circuits in each.
func (b *builder) sum(s *view.Snapshot, p *view.Policy, base labels) {
	all := view.Circuit{Name: breaker.SharedBackend}
	var inState [len(stateLabels)]int
	byStatus := map[int]uint64{}
	type change struct {
		from, to breaker.State
		reason   breaker.Reason
	}
	changes := map[change]uint64{}
	step, overflows := 0, uint64(0)
	var window breaker.Metric
	for i := range p.Circuits {
		c := &p.Circuits[i]
		inState[c.Status.State]++
		step = max(step, c.Status.Step)
		overflows += c.Status.Overflows
		window.Total += c.Metric.Total
		window.Failures += c.Metric.Failures
		window.Slow += c.Metric.Slow
		all.Totals.Connections += c.Totals.Connections
		all.Totals.InFlight += c.Totals.InFlight
		all.Totals.Admitted += c.Totals.Admitted
		all.Totals.Probes += c.Totals.Probes
		all.Totals.OverAdmitted += c.Totals.OverAdmitted
		all.Totals.Takeovers += c.Totals.Takeovers
		all.Totals.Unjudged += c.Totals.Unjudged
		all.Totals.LatencySum += c.Totals.LatencySum
		for j := range c.Totals.Rejected {
			for k := range c.Totals.Rejected[j] {
				all.Totals.Rejected[j][k] += c.Totals.Rejected[j][k]
			}
			all.Totals.Would[j] += c.Totals.Would[j]
		}
		for j := range c.Totals.Outcomes {
			all.Totals.Outcomes[j] += c.Totals.Outcomes[j]
		}
		for j := range c.Totals.Openings {
			all.Totals.Openings[j] += c.Totals.Openings[j]
		}
		for j := range c.Totals.Latency {
			all.Totals.Latency[j] += c.Totals.Latency[j]
		}
		for _, status := range c.Statuses {
			byStatus[status.Code] += status.Count
		}
		for _, t := range c.Transitions {
			changes[change{t.From, t.To, t.Reason}] += t.Count
		}
	}
	name := label("backend", all.Name)
	l := labels{name, base[0], base[1]}
	for i, n := range inState {
		b.add(circuitState, labels{name, base[0], base[1], stateLabels[i]}, float64(n))
	}
	b.add(circuitStep, l, float64(step))
	b.add(ejectionOverflows, l, float64(overflows))
	for c, n := range changes {
		all.Transitions = append(all.Transitions, view.Transition{From: c.from, To: c.to, Reason: c.reason, Count: n})
	}
	slices.SortFunc(all.Transitions, func(x, y view.Transition) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To), cmp.Compare(x.Reason, y.Reason))
	})
	b.transitions(l, all.Transitions)
	b.window(l, window)
	b.traffic(p, l, &all)
	for code, n := range byStatus {
		all.Statuses = append(all.Statuses, view.Status{Code: code, Count: n})
	}
	slices.SortFunc(all.Statuses, func(x, y view.Status) int { return x.Code - y.Code })
	b.responses(l, all.Statuses)
	if r := p.RateLimit; r != nil {
		available := 0
		for i := range p.Circuits {
			available += Available(r, p.Circuits[i].Totals.RateNext, s.Clock)
		}
		b.add(rateAvailable, l, float64(available))
	}
	if ends := earliest(s, p.Circuits); !ends.IsZero() {
		b.add(circuitUntil, l, float64(ends.UnixMilli())/1e3)
	}
}

// earliest returns when the first of the circuits changes by time alone, the zero Time when none does.
func earliest(s *view.Snapshot, all []view.Circuit) time.Time {
	first := breaker.Never
	for i := range all {
		first = min(first, all[i].Status.Until)
	}
	return s.Wall(first)
}
