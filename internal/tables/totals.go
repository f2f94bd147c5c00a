package tables

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
)

// Totals are what the programs counted for a circuit since it was reset.
type Totals struct {
	Connections  uint64                          // open or being opened, now
	InFlight     uint64                          // requests, now
	Admitted     uint64                          // requests (http) or connections (tcp)
	Probes       uint64                          // of these, with a half-open permit
	OverAdmitted uint64                          // of these, streams that would have been rejected alone: they shared a packet with an admitted one
	Takeovers    uint64                          // open connections of HTTP/2 that the kernel took from the backend to reject a stream
	Unjudged     uint64                          // outcomes that the circuit does not judge
	Rejected     [Rejections][rejectCount]uint64 // by Rejection and by what the client got, as RejectNames
	Would        [Rejections]uint64              // in monitor, admitted in place of it: by Rejection
	Outcomes     [OutcomeClasses]uint64          // by class: see OutcomeClass
	Openings     [Openings]uint64                // connections that begin with something else than a request, by Opening
	Latency      [LatencyBuckets]uint64          // responses; bucket i took less than LatencyBound(i)
	LatencySum   time.Duration                   // over the responses in Latency
	RateNext     int64                           // when the rate limiter's next admission is due at an even pace, on Now's clock
}

// RejectedTotal returns the sum of Rejected.
func (t *Totals) RejectedTotal() uint64 {
	var n uint64
	for i := range t.Rejected {
		for _, of := range t.Rejected[i] {
			n += of
		}
	}
	return n
}

// Lengths of Totals.Outcomes and Totals.Latency.
const (
	OutcomeClasses = len(circuit{}.Outcomes)
	LatencyBuckets = len(circuit{}.Latency)
)

// Places of Totals.Outcomes: the named results come first, then 1xx..9xx, then the gRPC codes.
const (
	firstStatusClass = int(bpf.CResultRESULT_NAMED)
	firstGRPCClass   = OutcomeClasses - breaker.GRPCCodes
)

// OutcomeClass returns the place in Totals.Outcomes at which a result is counted.
func OutcomeClass(r breaker.Result) int {
	if code, ok := r.GRPC(); ok {
		return firstGRPCClass + code
	}
	if status, ok := r.Status(); ok {
		return firstStatusClass + status/100 - 1
	}
	return int(r)
}

// OutcomeName returns the name of a place of Totals.Outcomes: of a result, or 1xx..9xx.
func OutcomeName(class int) string {
	switch {
	case class >= firstGRPCClass:
		return breaker.ResultGRPC(class - firstGRPCClass).String()
	case class >= firstStatusClass:
		return strconv.Itoa(class-firstStatusClass+1) + "xx"
	}
	return breaker.Result(class).String()
}

// LatencyBound returns the upper bound of a bucket of Totals.Latency. The last bucket has none.
func LatencyBound(bucket int) time.Duration { return time.Duration(1<<bpf.CSizeLATENCY_BITS) << bucket }

// Totals reads the counts of a circuit, one after the other while the programs count on.
func (t *Tables) Totals(circuit int) Totals {
	target, c := &t.targets.vals[circuit], &t.circuits.vals[circuit]
	all := Totals{
		Connections: atomic.LoadUint64(&target.Connections), InFlight: atomic.LoadUint64(&c.Requests),
		Admitted: atomic.LoadUint64(&c.Admitted), Probes: atomic.LoadUint64(&c.Probes),
		OverAdmitted: atomic.LoadUint64(&c.OverAdmitted), Takeovers: atomic.LoadUint64(&c.Takeovers),
		Unjudged: atomic.LoadUint64(&c.Unjudged), LatencySum: time.Duration(atomic.LoadUint64(&c.LatencySum)),
		RateNext: int64(atomic.LoadUint64(&target.RateNext)),
	}
	for i := range all.Rejected {
		for j := range all.Rejected[i] {
			all.Rejected[i][j] = atomic.LoadUint64(&c.Rejected[i][j])
		}
		all.Would[i] = atomic.LoadUint64(&c.WouldReject[i])
	}
	for i := range all.Outcomes {
		all.Outcomes[i] = atomic.LoadUint64(&c.Outcomes[i])
	}
	all.Openings, _ = t.Openings(circuit)
	for i := range all.Latency {
		all.Latency[i] = atomic.LoadUint64(&c.Latency[i])
	}
	return all
}

// Openings reads Totals.Openings and Totals.Admitted alone, for use on many circuits.
func (t *Tables) Openings(circuit int) (counts [Openings]uint64, admitted uint64) {
	c := &t.circuits.vals[circuit]
	for i := range counts {
		counts[i] = atomic.LoadUint64(&c.Openings[i])
	}
	return counts, atomic.LoadUint64(&c.Admitted)
}
