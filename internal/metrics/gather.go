// Package metrics shows an agent's snapshot as Prometheus metrics. docs/metrics.md describes each.
package metrics

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/cbagent/cbagent/internal/view"
)

// Gatherer reads a snapshot for each scrape. It is a prometheus.Gatherer.
type Gatherer struct {
	read     func() *view.Snapshot
	circuits int
	process  *prometheus.Registry
}

// New makes a Gatherer. Of policies that together have more circuits than the given number, the largest are summed to one
// circuit each until the others fit. With process it also tells of the Go runtime and the process.
func New(read func() *view.Snapshot, circuits int, process bool) *Gatherer {
	g := &Gatherer{read: read, circuits: circuits, process: prometheus.NewRegistry()}
	if process {
		g.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return g
}

// Gather reads the agent and returns all families by name.
func (g *Gatherer) Gather() ([]*dto.MetricFamily, error) {
	s := g.read()
	var b builder
	b.agent(s)
	folded := fold(s.Policies, g.circuits)
	for i := range s.Policies {
		b.policy(s, &s.Policies[i], folded[i])
	}
	b.surroundings(s)
	own, err := g.process.Gather()
	all := append(b.sorted(), own...)
	slices.SortFunc(all, func(x, y *dto.MetricFamily) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return all, err
}

// fold says which policies are summed so that at most so many circuits are shown.
func fold(policies []view.Policy, most int) []bool {
	folded := make([]bool, len(policies))
	bySize := make([]int, len(policies))
	total := 0
	for i := range policies {
		bySize[i] = i
		total += len(policies[i].Circuits)
	}
	slices.SortStableFunc(bySize, func(x, y int) int { return len(policies[y].Circuits) - len(policies[x].Circuits) })
	for _, i := range bySize {
		if n := len(policies[i].Circuits); total > most && n > 1 {
			folded[i] = true
			total -= n - 1
		}
	}
	return folded
}

func (b *builder) agent(s *view.Snapshot) {
	a := &s.Agent
	b.add(buildInfo, labels{}.with("version", a.Version, "goversion", runtime.Version()), 1)
	b.add(ready, nil, truth(a.Ready))
	b.add(ringEvents, nil, float64(a.RingEvents))
	b.add(ringLost, nil, float64(s.Node.LostEvents))
	b.add(ringRecovered, nil, float64(a.Recovered))
	b.add(reloads, labels{}.with("result", "success"), float64(a.Reloads-a.ReloadFailures))
	b.add(reloads, labels{}.with("result", "failure"), float64(a.ReloadFailures))
	b.add(reloadOK, nil, truth(a.ReloadError == ""))
	if !a.PoliciesLoaded.IsZero() {
		b.add(reloadTime, nil, float64(a.PoliciesLoaded.UnixMilli())/1e3)
	}
	var seconds []float64
	for _, d := range view.Bounds() {
		seconds = append(seconds, d.Seconds())
	}
	b.histogram(verdictLatency, nil, seconds, a.Verdicts.Buckets[:], a.Verdicts.Sum.Seconds())
	b.add(flows, nil, float64(s.Node.Flows))
	b.add(flowsMax, nil, float64(s.Node.MaxFlows))
	n := 0
	for i := range s.Policies {
		n += len(s.Policies[i].Circuits)
	}
	b.add(circuits, nil, float64(n))
	b.add(circuitsMax, nil, float64(a.CircuitsMax))
	b.add(leaseExpired, nil, float64(s.Node.LeaseExpired))
	b.add(sweepTime, nil, a.Sweep.Took.Seconds())
	b.add(records, nil, float64(a.Records))
	for _, sink := range slices.Sorted(maps.Keys(a.Lost)) {
		b.add(recordsLost, labels{}.with("sink", sink), float64(a.Lost[sink]))
	}
	behind := time.Duration(0)
	if !a.StateBehind.IsZero() {
		behind = max(0, s.At.Sub(a.StateBehind))
	}
	b.add(stateBehind, nil, behind.Seconds())
	b.add(stateFailures, nil, float64(a.StateFailures))
	b.add(readers, nil, float64(a.Readers))
	for _, server := range a.Servers {
		l := labels{}.with("server", server.Name)
		b.add(serverConnections, l, float64(server.Connections))
		b.add(serverEvicted, l, float64(server.Evicted))
		b.add(serverRejected, l, float64(server.Rejected))
	}
	b.add(readersRejected, nil, float64(a.ReadersRejected))
	b.add(traceReaders, nil, float64(a.Tracers))
	b.add(readersDropped, nil, float64(a.ReaderDropped))
}

// surroundings are the interfaces, hooks and sources.
func (b *builder) surroundings(s *view.Snapshot) {
	for _, i := range s.Interfaces {
		if i.Attach {
			b.add(attached, labels{}.with("interface", i.Link.Name, "mode", i.Mode), truth(i.Attached))
		}
	}
	for _, p := range s.Packets {
		b.add(packets, labels{}.with("hook", p.Hook, "action", p.Action, "reason", p.Reason), float64(p.Packets))
	}
	for _, src := range s.Sources {
		l := labels{}.with("kind", src.Kind, "source", src.Name)
		b.add(lookups, l.with("result", "success"), float64(src.Successes))
		b.add(lookups, l.with("result", "failure"), float64(src.Failures))
		b.add(sourceStale, l, truth(src.Stale))
		b.add(sourceAnswers, l, float64(src.Answers))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
