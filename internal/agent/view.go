package agent

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
)

// viewChunk is how many circuits are read each time that the lock is taken, so that verdicts do not wait for a reader.
const viewChunk = 256

// Snapshot returns the state of the agent. It takes the lock for short times only, whatever the number of circuits. The
// snapshot of a closed agent is empty except for its time.
func (a *Agent) Snapshot() *view.Snapshot {
	a.viewing.RLock()
	defer a.viewing.RUnlock()
	s := &view.Snapshot{At: time.Now(), Clock: a.clock()}
	if a.closed {
		return s
	}
	a.mu.Lock()
	s.Agent = a.viewAgent()
	circuits := a.viewPolicies(s)
	finder := a.discovery
	a.mu.Unlock()

	statuses := a.statusesByCircuit()
	for i := range s.Policies {
		a.viewCircuits(&s.Policies[i], circuits[i], breaker.Time(s.Clock), statuses)
	}
	if finder != nil {
		s.Sources = finder.Status()
	}
	s.Interfaces = a.interfaces.View()
	s.Node = a.dp.NodeCounts()
	var err error
	if s.Packets, err = a.dp.Packets(); err != nil {
		a.log.Error("cannot read the counts of packets", "error", err)
	}
	return s
}

func (a *Agent) viewAgent() view.Agent {
	v := view.Agent{Version: a.cfg.Version, Node: a.cfg.NodeName, Started: a.health.started, Recovered: a.recovered}
	if err := a.waitsFor(); err != nil {
		v.WaitsFor = err.Error()
	}
	v.Ready = v.WaitsFor == ""
	v.PoliciesLoaded, v.Reloads, v.ReloadFailures, v.ReloadError = a.loaded, a.reloads.attempts, a.reloads.failures, a.reloads.lastError
	v.RingEvents = a.book.EventsRead()
	a.records.View(&v)
	for sink, lost := range a.cfg.Lost {
		v.Lost[sink] = lost()
	}
	v.StateBehind, v.StateErr, v.StateFailures = a.saver.View()
	var missed uint64
	v.Readers, missed, v.ReadersRejected = a.dir.History.Followers()
	v.Tracers, v.ReaderDropped = a.tracers.Count(), a.tracers.Dropped()+missed
	v.Servers = a.servers.View()
	v.CircuitsMax, v.Sweep = a.circuitPlaces.Size(), a.lastSweep
	return v
}

// viewPolicies adds all policies in force to the snapshot and returns their circuits, for viewCircuits.
func (a *Agent) viewPolicies(s *view.Snapshot) [][]*circuitState {
	if a.set == nil {
		return nil
	}
	var circuits [][]*circuitState
	for _, want := range a.set.Policies {
		p := a.policies[want.Name]
		if p == nil {
			continue
		}
		s.Policies = append(s.Policies, view.Policy{
			Policy: p.Policy, Complete: p.reported && p.complete, DiscoveryErr: p.discoveryErr,
			Known: p.group.Known(), Ejected: p.group.Ejected(),
		})
		circuits = append(circuits, slices.Collect(maps.Values(p.circuits)))
	}
	return circuits
}

// viewCircuits reads circuits in chunks. It omits those that were removed meanwhile.
func (a *Agent) viewCircuits(p *view.Policy, circuits []*circuitState, now breaker.Time, statuses map[int][]view.Status) {
	p.Circuits = make([]view.Circuit, 0, len(circuits))
	for chunk := range slices.Chunk(circuits, viewChunk) {
		a.mu.Lock()
		for _, c := range chunk {
			if c.id >= len(a.circuits) || a.circuits[c.id] != c {
				continue
			}
			p.Circuits = append(p.Circuits, view.Circuit{
				ID: c.id, Name: c.name, Backends: c.backendList(), Status: c.circuit.Status(), Metric: c.circuit.Metric(now),
				Transitions: slices.Clone(c.trail.Transitions), Last: c.trail.Last, RejectedAt: c.trail.RejectedAt,
			})
		}
		a.mu.Unlock()
	}
	slices.SortFunc(p.Circuits, func(x, y view.Circuit) int {
		if len(x.Backends) == 1 && len(y.Backends) == 1 {
			return x.Backends[0].Addr.Compare(y.Backends[0].Addr)
		}
		return strings.Compare(x.Name, y.Name)
	})
	for i := range p.Circuits {
		c := &p.Circuits[i]
		c.Totals, c.Progress, c.Statuses = a.dp.Totals(c.ID), a.dp.Progress(c.ID), statuses[c.ID]
	}
}

func (c *circuitState) backendList() []discovery.Backend {
	all := make([]discovery.Backend, 0, len(c.backends))
	for _, b := range c.backends {
		all = append(all, b)
	}
	if len(all) > 1 {
		slices.SortFunc(all, func(x, y discovery.Backend) int { return x.Addr.Compare(y.Addr) })
	}
	return all
}

func (a *Agent) statusesByCircuit() map[int][]view.Status {
	all, err := a.dp.Statuses()
	if err != nil {
		a.log.Error("cannot read the counts by status", "error", err)
	}
	byCircuit := map[int][]view.Status{}
	for _, s := range all {
		byCircuit[s.Circuit] = append(byCircuit[s.Circuit], view.Status{Code: s.Status, Count: s.Count})
	}
	for _, list := range byCircuit {
		slices.SortFunc(list, func(x, y view.Status) int { return x.Code - y.Code })
	}
	return byCircuit
}

// Policies returns the policies in force, nil before there are any.
func (a *Agent) Policies() *policy.Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set
}

// Follow returns up to n of the newest records, and a follower of all later ones as far as the reader keeps up. It returns
// an error when there are too many followers.
func (a *Agent) Follow(n, buffer int) ([]view.Record, *history.Follower, error) {
	return a.dir.History.Follow(n, buffer)
}

// Last returns up to n of the newest records, oldest first. The records must not be changed.
func (a *Agent) Last(n int) []view.Record { return a.dir.History.Last(n) }

// Trace returns a tracer that gets every outcome of the target until it is closed. While there is one, the programs send
// plain successes as events, too.
func (a *Agent) Trace(t control.Target) (control.Tracer, error) {
	tr, err := a.tracers.Open(t)
	if err != nil {
		return nil, err
	}
	return tr, nil
}

// useTrace calls f with the function that makes the programs send plain successes, or with nil when the datapath is closed.
func (a *Agent) useTrace(f func(setTrace func(on bool))) {
	a.viewing.RLock()
	defer a.viewing.RUnlock()
	if a.closed {
		f(nil)
		return
	}
	f(a.dp.SetTrace)
}
