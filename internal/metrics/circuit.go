package metrics

import (
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

// Labels that many series share.
var (
	stateLabels   [5]*dto.LabelPair
	outcomeLabels [tables.OutcomeClasses]*dto.LabelPair
	reasonLabels  [tables.Rejections]*dto.LabelPair
	answerLabels  [len(tables.RejectNames)]*dto.LabelPair
	otherLabels   [tables.Openings]*dto.LabelPair
)

func init() {
	for i, s := range states {
		stateLabels[i] = label("state", s.String())
	}
	for i := range outcomeLabels {
		outcomeLabels[i] = label("outcome", tables.OutcomeName(i))
	}
	for i := range reasonLabels {
		reasonLabels[i] = label("reason", tables.Rejection(i).String())
	}
	for i, name := range tables.RejectNames {
		answerLabels[i] = label("answer", name)
	}
	for i := range otherLabels {
		otherLabels[i] = label("protocol", tables.Opening(i).String())
	}
}

// circuit adds the series of one circuit.
func (b *builder) circuit(s *view.Snapshot, p *view.Policy, c *view.Circuit, base labels) {
	name := label("backend", c.Name)
	l := labels{name, base[0], base[1]}
	for i, state := range states {
		b.add(circuitState, labels{name, base[0], base[1], stateLabels[i]}, truth(c.Status.State == state))
	}
	if c.Status.Overridden {
		b.add(circuitOverride, l.with("mode", c.Status.Override.Mode.String()), 1)
	}
	if until := s.Wall(c.Status.Until); !until.IsZero() {
		b.add(circuitUntil, l, float64(until.UnixMilli())/1e3)
	}
	b.add(circuitStep, l, float64(c.Status.Step))
	b.add(ejectionOverflows, l, float64(c.Status.Overflows))
	b.transitions(l, c.Transitions)
	b.window(l, c.Metric)
	b.traffic(p, l, c)
	b.responses(l, c.Statuses)
	if c.Status.State == breaker.StateHalfOpen && p.Breaker.HalfOpen.Ramp == nil {
		b.add(permitsUsed, l, float64(c.Progress.Permits))
		b.add(permitsOut, l, float64(c.Progress.InFlight))
	}
	if r := p.RateLimit; r != nil {
		b.add(rateAvailable, l, float64(Available(r, c.Totals.RateNext, s.Clock)))
	}
	for _, be := range c.Backends {
		if be.Kind == discovery.KindService || be.Kind == discovery.KindHost {
			at := labels{label("backend", be.Addr.String()), base[0], base[1]}
			b.add(backendInfo, at.with("kind", be.Kind.String(), "source", be.Source, "namespace", be.Namespace, "pod", be.Pod,
				"node", be.Node, "zone", be.Zone), 1)
		}
	}
}

func (b *builder) transitions(l labels, all []view.Transition) {
	for _, t := range all {
		b.add(circuitTransitions, l.with("from", t.From.String(), "to", t.To.String(), "reason", t.Reason.String()), float64(t.Count))
	}
}

func (b *builder) window(l labels, m breaker.Metric) {
	b.add(windowOutcomes, l, float64(m.Total))
	if r, ok := m.FailureRate(); ok {
		b.add(windowFailures, l, r)
	}
	if r, ok := m.SlowRate(); ok {
		b.add(windowSlow, l, r)
	}
	if ms, ok := m.AvgMillis(); ok {
		b.add(windowLatency, l, ms/1e3)
	}
}

func (b *builder) responses(l labels, all []view.Status) {
	for _, status := range all {
		b.add(responses, l.with("status", strconv.Itoa(status.Code)), float64(status.Count))
	}
}

// traffic adds what the kernel counted.
func (b *builder) traffic(p *view.Policy, l labels, c *view.Circuit) {
	t := &c.Totals
	b.add(connections, l, float64(t.Connections))
	if p.Protocol.Requests() {
		b.add(inFlight, l, float64(t.InFlight))
		b.otherProtocols(l, &t.Openings)
	}
	b.add(admitted, l, float64(t.Admitted))
	b.add(probes, l, float64(t.Probes))
	b.add(unjudged, l, float64(t.Unjudged))
	if t.OverAdmitted > 0 {
		b.add(overAdmitted, l, float64(t.OverAdmitted))
	}
	if t.Takeovers > 0 {
		b.add(takeovers, l, float64(t.Takeovers))
	}
	for i, n := range t.Outcomes {
		if n > 0 || t.Admitted > 0 && always[p.Protocol][i] {
			b.add(outcomes, labels{l[0], l[1], outcomeLabels[i], l[2]}, float64(n))
		}
	}
	for i := range t.Rejected {
		for j, n := range t.Rejected[i] {
			if n > 0 || j == int(p.Reject.With) && limited(p, tables.Rejection(i)) {
				b.add(rejected, labels{answerLabels[j], l[0], l[1], l[2], reasonLabels[i]}, float64(n))
			}
		}
		if n := t.Would[i]; n > 0 {
			b.add(wouldReject, labels{l[0], l[1], l[2], reasonLabels[i]}, float64(n))
		}
	}
	counts, any := latencyCounts(&t.Latency)
	if any {
		b.histogram(responseDuration, l, latencyBounds, counts[:], t.LatencySum.Seconds())
	}
}

// otherProtocols adds the connections of an http policy that begin with something else than a request.
func (b *builder) otherProtocols(l labels, counts *[tables.Openings]uint64) {
	for i, n := range counts {
		if n > 0 {
			b.add(otherProtocols, labels{l[0], l[1], l[2], otherLabels[i]}, float64(n))
		}
	}
}

// always are the outcomes that are shown from the first call on, so that their rate is right from the first one on.
var always = map[policy.Protocol]map[int]bool{
	policy.HTTP: classes(append(failed, 200, 300, 400, 500)...),
	policy.GRPC: classes(append(failed, breaker.ResultH2Refused, breaker.ResultH2Reset, breaker.ResultGRPC(0),
		breaker.ResultGRPC(breaker.GRPCUnknown), breaker.ResultGRPC(breaker.GRPCDeadlineExceeded), breaker.ResultGRPC(breaker.GRPCInternal),
		breaker.ResultGRPC(breaker.GRPCUnavailable), breaker.ResultGRPC(breaker.GRPCDataLoss))...),
	policy.TCP: classes(breaker.ResultConnectRefused, breaker.ResultConnectTimeout, breaker.ResultUnreachable, breaker.ResultConnected),
}

var failed = []breaker.Result{
	breaker.ResultConnectRefused, breaker.ResultConnectTimeout, breaker.ResultUnreachable, breaker.ResultReset,
	breaker.ResultTimeout, breaker.ResultAbandoned,
}

func classes(results ...breaker.Result) map[int]bool {
	all := map[int]bool{}
	for _, r := range results {
		all[tables.OutcomeClass(r)] = true
	}
	return all
}

// limited reports whether clients may be rejected for a reason by what the policy says: those reasons are shown from
// the start.
func limited(p *view.Policy, r tables.Rejection) bool {
	switch r {
	case tables.RejectedOpen:
		return true
	case tables.RejectedConnectionLimit:
		return p.Limits.MaxConnections > 0
	case tables.RejectedRequestLimit:
		return p.Limits.MaxRequests > 0
	case tables.RejectedRateLimit:
		return p.RateLimit != nil
	}
	return false
}

// latencyBuckets is how many of the kernel's buckets, each twice as wide as the one before, make one of ours.
const latencyBuckets = tables.LatencyBuckets / 2

// latencyBounds are the upper bounds in seconds: each four times the one before.
var latencyBounds = func() []float64 {
	var all []float64
	for i := range latencyBuckets - 1 {
		all = append(all, tables.LatencyBound(2*i+1).Seconds())
	}
	return all
}()

func latencyCounts(kernel *[tables.LatencyBuckets]uint64) (ours [latencyBuckets]uint64, any bool) {
	for i, n := range kernel {
		ours[i/2] += n
		any = any || n > 0
	}
	return ours, any
}

// Available returns how many requests the rate limiter would admit at now. next is the moment at which the next one would
// be due at an even pace.
func Available(r *policy.RateLimit, next, now int64) int {
	interval := (int64(r.Period) + int64(r.Limit) - 1) / int64(r.Limit)
	ahead := time.Duration(max(next-now, 0))
	left := int64(r.Burst-1)*interval - int64(ahead)
	if left < 0 {
		return 0
	}
	return int(left/interval) + 1
}
