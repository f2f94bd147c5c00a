package breaker

import (
	"net/netip"
	"time"
)

// Outcome is how one request (http) or connection attempt (tcp) ended.
type Outcome struct {
	Result     Result
	HasLatency bool          // Latency is known; otherwise it is left out of the mean and never slow
	Permit     bool          // it was sent in half-open with a permit
	Generation uint32        // of the circuit when it was sent
	Latency    time.Duration // >= 0
	Began      Time          // when it was sent; identifies a probe
	Client     netip.Addr    // for minClients; may be the zero Addr
}

// Judgement is the result of recording an outcome.
type Judgement uint8

// Judgements.
const (
	Judged     Judgement = iota // it is in the window and trippers ran
	Ignored                     // its class is ignored; a probe's permit was returned
	Stale                       // it was sent in an earlier generation
	NoPermit                    // it was sent in half-open without a permit, or its probe had timed out
	NotJudging                  // the circuit is open, forced-open or disabled
	judgements                  // length
)

// Admission is the decision on a request.
type Admission struct {
	Admitted   bool // the request may be sent
	WouldAdmit bool // the decision in mode enforce; differs from Admitted in monitor only
	Permit     bool // it took a permit of a half-open circuit: its Outcome must have Permit, with Began = the time of the decision
	State      State
	Mode       Mode
	Generation uint32 // its Outcome must carry it
}

// Metric is the content of a window at a moment. Rates are absent when Total is 0, the mean when Timed is 0.
type Metric struct {
	Total    uint64
	Failures uint64
	Slow     uint64 // longer than OutcomeRules.Slow
	Timed    uint64 // outcomes whose latency is known

	durationHigh, durationLow uint64 // ns, 128 bits: 2^32 outcomes of a minute each do not fit 64
}
