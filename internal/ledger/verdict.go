package ledger

import "time"

// Kind says what the programs do with clients of a circuit.
type Kind uint8

// Kinds of verdicts. Half-open has none of its own: an open verdict is half-open from its deadline on.
const (
	Closed     Kind = iota // admit and judge
	Open                   // reject until the deadline
	ForcedOpen             // reject
	Disabled               // admit, judge nothing
	Kinds                  // length
)

// Verdict is what the programs need to know of a circuit's state. Times are in ns of the kernel's monotonic clock.
type Verdict struct {
	Kind       Kind
	Monitor    bool   // admit, and count who would have been rejected
	Override   bool   // an operator's, not the policy's; the programs do not read it
	Generation uint32 // >= 1; of an open verdict: of the opening, its half-open period has the next
	Until      int64  // open: the deadline. Forced-open, disabled: end of the override, 0 = none
	Calls      uint32 // half-open: permits; 0 = admit all
	Concurrent uint32 // half-open: of these in flight at once
	RampOver   time.Duration
	RampFrom   float64 // 0..1; with RampOver > 0 a growing share instead of permits
	RampTo     float64 // 0..1
	Step       uint16  // of the backoff; the programs do not read it
}

// Progress is how far the judging of a verdict has come. All counts are since it was published.
type Progress struct {
	Judged   uint64        // outcomes
	Events   uint64        // of these, sent through the ring
	Failures uint64        // of these
	Slow     uint64        // of the others
	Duration time.Duration // sum over the judged outcomes
	Permits  uint32        // used
	InFlight uint32        // permits that are held
}
