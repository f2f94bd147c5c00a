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
	Began      Time          // when it was sent; tells probes apart
	Client     netip.Addr    // for minClients; may be the zero Addr
}

// Judgement says what became of an outcome.
type Judgement uint8

// Judgements.
const (
	Judged     Judgement = iota // it is in the window and trippers ran
	Ignored                     // its class is ignored; a probe's permit was given back
	Stale                       // it was sent in an earlier generation
	NoPermit                    // it was sent in half-open without a permit, or its probe had timed out
	NotJudging                  // the circuit is open, forced-open or disabled
	judgements                  // length
)

// Admission is the answer to whether a request may be sent.
type Admission struct {
	Admitted   bool // it may be sent
	WouldAdmit bool // what enforce would have said; differs from Admitted in monitor only
	Permit     bool // it took a permit of a half-open circuit: its Outcome must say so, with Began = the time asked
	State      State
	Mode       Mode
	Generation uint32 // its Outcome must carry it
}

// Metric is what a window says at a moment. Rates are absent when Total is 0, the mean when Timed is 0.
type Metric struct {
	Total    uint64
	Failures uint64
	Slow     uint64 // longer than OutcomeRules.Slow
	Timed    uint64 // outcomes whose latency is known

	durationHigh, durationLow uint64 // ns, 128 bits: 2^32 outcomes of a minute each do not fit 64
}
