package breaker

import "time"

// Time is a moment in nanoseconds. The caller chooses its zero (the kernel's CLOCK_MONOTONIC in the agent, the trace's zero
// in a replay); buckets of time windows are aligned to it.
type Time int64

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Settings are the settings of a policy for its Group. The zero value is not valid; start from DefaultSettings. Validate
// lists all invalid values.
type Settings struct {
	Mode     Mode
	Scope    Scope
	Outcome  OutcomeRules
	Window   Window
	Trip     Trip
	Open     Open
	HalfOpen HalfOpen
	Ejection Ejection
}

// Mode is the mode of a policy or, by an override, of one circuit.
type Mode uint8

// Modes. In monitor the state machine runs and no client is rejected.
const (
	ModeEnforce Mode = iota
	ModeMonitor
	ModeDisabled
	ModeForcedOpen
)

// Scope is the set of backends that share a circuit.
type Scope uint8

// Scopes: a circuit for each backend, or one for all backends of the policy.
const (
	ScopeBackend Scope = iota
	ScopePolicy
)

// OutcomeRules classify results. Ignore wins over Failure; ResultAborted, ResultAbandoned, ResultRaced and ResultUnknown
// in neither are ignored; anything else in neither is a success.
type OutcomeRules struct {
	Failure ResultSet
	Ignore  ResultSet
	Slow    time.Duration // an outcome that took longer is slow; 0 = nothing is slow
}

// WindowType is count or time.
type WindowType uint8

// Window types.
const (
	WindowTime WindowType = iota
	WindowCount
)

// Window sets the window of a circuit.
type Window struct {
	Type   WindowType
	Size   time.Duration // time: 1s..1h
	Bucket time.Duration // time: divides Size
	Count  int           // count: 1..100000 outcomes
}

// TripKind is the key of a tripper.
type TripKind uint8

// Trippers, in the order of the policy reference. Every comparison is >=.
const (
	TripAny                 TripKind = iota // Children
	TripAll                                 // Children
	TripNot                                 // Children[0]
	TripMinCalls                            // N
	TripFailureRate                         // Rate
	TripSlowRate                            // Rate, Over (0 = OutcomeRules.Slow)
	TripFailureCount                        // N
	TripConsecutiveFailures                 // N, Of (nil = any failure)
	TripAvgLatency                          // Over
	TripSuccessRateOutlier                  // Stdev, MinBackends, N (= minCalls)
	TripPendingAge                          // Over
	TripMinClients                          // N
	TripState                               // State (StateClosed or StateHalfOpen)
	tripKinds                               // length
)

// Trip is one tripper, a predicate on the window of a circuit, or a composition of trippers.
type Trip struct {
	Kind        TripKind
	N           int
	Rate        float64
	Over        time.Duration
	Of          *ResultSet
	Stdev       float64
	MinBackends int
	State       State
	Children    []Trip
}

// Backoff is the growth of the duration of an opening with the step.
type Backoff uint8

// Backoffs: duration; n x duration; duration x multiplier^(n-1).
const (
	BackoffNone Backoff = iota
	BackoffLinear
	BackoffExponential
)

// Open sets how long a circuit stays open.
type Open struct {
	Duration   time.Duration
	Backoff    Backoff
	Multiplier float64
	Max        time.Duration // caps the result, after jitter
	Jitter     float64       // 0..1: share of the duration, +-, drawn once per opening
}

// HalfOpen sets how a circuit checks whether its backend has recovered.
type HalfOpen struct {
	Calls      int // probes that must finish; 0 = straight back to closed
	Concurrent int // probes in flight at once, 1..Calls
	Tolerate   int // probes that may fail or be slow, < Calls
	Timeout    time.Duration
	Ramp       *Ramp // instead of probes
}

// Ramp admits a share of the requests that grows linearly with time.
type Ramp struct {
	From, To float64 // 0..1
	Over     time.Duration
}

// Ejection limits how many backends of one policy may be ejected at once.
type Ejection struct {
	MaxPercent float64 // of the known backends, 0..100
	MinHealthy int
}

// State is the state of a circuit.
type State uint8

// States. Forced-open and disabled follow from a policy's mode or an operator's override.
const (
	StateClosed State = iota
	StateOpen
	StateHalfOpen
	StateForcedOpen
	StateDisabled
	states // length
)
