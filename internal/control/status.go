package control

import (
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/metrics"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

// NewStatus returns the part of a snapshot that a target names, in the format of the API. It omits policies without a
// circuit of the target, unless the target names the policy.
func NewStatus(s *view.Snapshot, t Target) Status {
	out := Status{Time: s.At, Agent: agentOf(s), Policies: []Policy{}, Interfaces: []Interface{}, Sources: []Source{}}
	for i := range s.Policies {
		p := &s.Policies[i]
		if t.Policy != "" && t.Policy != p.Name {
			continue
		}
		q := policyOf(s, p, t)
		if t.Backend != "" && len(q.Circuits) == 0 {
			continue
		}
		out.Policies = append(out.Policies, q)
	}
	for _, i := range s.Interfaces {
		why := i.Reason
		if i.Pending {
			why += "; attaching fails, see the log"
		}
		out.Interfaces = append(out.Interfaces, Interface{
			Name: i.Link.Name, Index: i.Link.Index, Kind: i.Link.Kind, Attached: i.Attached, Mode: i.Mode, Wanted: i.Attach,
			Uplink: i.Uplink, Why: why,
		})
	}
	for _, x := range s.Sources {
		out.Sources = append(out.Sources, Source{
			Kind: x.Kind, Name: x.Name, Policies: x.Policies, Answers: x.Answers, Stale: x.Stale, LastSuccess: x.LastSuccess,
			Error: x.LastError, Successes: x.Successes, Failures: x.Failures,
		})
	}
	return out
}

func agentOf(s *view.Snapshot) AgentInfo {
	a := &s.Agent
	out := AgentInfo{
		Version: a.Version, Node: a.Node, Started: a.Started, Ready: a.Ready, WaitsFor: a.WaitsFor, PoliciesLoaded: a.PoliciesLoaded,
		Reloads: a.Reloads, ReloadFailures: a.ReloadFailures, ReloadError: a.ReloadError,
		RingEvents: a.RingEvents, RingLost: s.Node.LostEvents, Flows: s.Node.Flows, FlowsLimit: s.Node.MaxFlows,
		CircuitsLimit: a.CircuitsMax, LeaseExpired: s.Node.LeaseExpired, RecordsLost: a.Lost[view.SinkHistory], Lost: a.Lost,
	}
	if a.StateErr != nil {
		out.StateError, out.StateBehindSince = a.StateErr.Error(), &a.StateBehind
	}
	for i := range s.Policies {
		out.Circuits += len(s.Policies[i].Circuits)
	}
	var bounds []float64
	for _, d := range view.Bounds() {
		bounds = append(bounds, d.Seconds())
	}
	out.VerdictP99Seconds = quantile(0.99, a.Verdicts.Buckets[:], bounds)
	return out
}

func policyOf(s *view.Snapshot, p *view.Policy, t Target) Policy {
	out := Policy{
		Name: p.Name, Direction: p.Direction.String(), Protocol: p.Protocol.String(), Mode: p.Breaker.Mode.String(),
		Scope: p.Breaker.Scope.String(), Backends: p.Known, Ejected: p.Ejected, States: map[string]int{},
		DiscoveryComplete: p.Complete, Circuits: []Circuit{},
	}
	if p.DiscoveryErr != nil {
		out.DiscoveryError = p.DiscoveryErr.Error()
	}
	for i := range p.Circuits {
		c := &p.Circuits[i]
		out.States[c.Status.State.String()]++
		if t.Has(p.Name, c.Name) {
			out.Circuits = append(out.Circuits, circuitOfView(s, p, c))
		}
	}
	return out
}

func circuitOfView(s *view.Snapshot, p *view.Policy, c *view.Circuit) Circuit {
	out := Circuit{
		Policy: p.Name, Direction: p.Direction.String(), Backend: c.Name,
		State: c.Status.State.String(), Mode: c.Status.Mode.String(), Since: s.Wall(c.Status.Since), Until: moment(s, c.Status.Until),
		Step: c.Status.Step, Openings: c.Status.Openings, Overflows: c.Status.Overflows, Yielded: c.Status.Yielded, Window: view.NewWindow(c.Metric),
		Connections: c.Totals.Connections, InFlight: c.Totals.InFlight, Admitted: c.Totals.Admitted, Unjudged: c.Totals.Unjudged,
		Rejected: map[string]uint64{}, Outcomes: map[string]uint64{}, Last: c.Last,
	}
	if c.Status.State != breaker.StateClosed {
		out.RejectedSince = c.Totals.RejectedTotal() - c.RejectedAt
	}
	for _, b := range c.Backends {
		out.Endpoints = append(out.Endpoints, Endpoint{
			Address: b.Addr.String(), Kind: b.Kind.String(), Source: b.Source, Namespace: b.Namespace, Pod: b.Pod, Node: b.Node,
			Zone: b.Zone, Draining: b.Terminating,
		})
	}
	if o := c.Status.Override; c.Status.Overridden {
		out.Override = &OverrideInfo{Mode: o.Mode.String(), Since: s.Wall(o.Since), Until: moment(s, o.Until), By: o.Who, Why: o.Why}
	}
	if c.Status.State == breaker.StateHalfOpen && p.Breaker.HalfOpen.Ramp == nil {
		out.Probes = &Probes{
			Used: c.Progress.Permits, InFlight: c.Progress.InFlight, Calls: p.Breaker.HalfOpen.Calls, Bad: c.Status.Probes.Bad,
		}
	}
	for i := range c.Totals.Rejected {
		var n uint64
		for _, of := range c.Totals.Rejected[i] {
			n += of
		}
		if n > 0 {
			out.Rejected[tables.Rejection(i).String()] = n
		}
		if n := c.Totals.Would[i]; n > 0 {
			if out.WouldReject == nil {
				out.WouldReject = map[string]uint64{}
			}
			out.WouldReject[tables.Rejection(i).String()] = n
		}
	}
	for i, n := range c.Totals.Outcomes {
		if n > 0 {
			out.Outcomes[tables.OutcomeName(i)] = n
		}
	}
	for _, status := range c.Statuses {
		if out.Responses == nil {
			out.Responses = map[string]uint64{}
		}
		out.Responses[strconv.Itoa(status.Code)] = status.Count
	}
	if p.Protocol.Requests() {
		out.OtherProtocols = otherProtocols(&c.Totals.Openings)
	}
	out.LatencyP50 = quantile(0.5, c.Totals.Latency[:], kernelBounds)
	out.LatencyP99 = quantile(0.99, c.Totals.Latency[:], kernelBounds)
	if p.RateLimit != nil {
		n := metrics.Available(p.RateLimit, c.Totals.RateNext, s.Clock)
		out.RateLimitAvailable = &n
	}
	return out
}

// otherProtocols returns the counts by name, zeros left out; nil when all are zero.
func otherProtocols(counts *[tables.Openings]uint64) map[string]uint64 {
	var out map[string]uint64
	for i, n := range counts {
		if n == 0 {
			continue
		}
		if out == nil {
			out = map[string]uint64{}
		}
		out[tables.Opening(i).String()] = n
	}
	return out
}

func moment(s *view.Snapshot, t breaker.Time) *time.Time {
	wall := s.Wall(t)
	if wall.IsZero() {
		return nil
	}
	return &wall
}

// kernelBounds are the upper bounds of tables.Totals.Latency in milliseconds.
var kernelBounds = func() []float64 {
	var all []float64
	for i := range tables.LatencyBuckets - 1 {
		all = append(all, tables.LatencyBound(i).Seconds()*1e3)
	}
	return all
}()

// quantile returns the upper bound of the bucket in which the quantile lies, of the last bucket its lower one; nil when
// nothing was counted.
func quantile(q float64, counts []uint64, bounds []float64) *float64 {
	var total, below uint64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return nil
	}
	for i, n := range counts {
		if below += n; float64(below) >= q*float64(total) {
			return &bounds[min(i, len(bounds)-1)]
		}
	}
	return &bounds[len(bounds)-1]
}
