package demo

import "time"

// Phase is a part of the demo.
type Phase uint8

// Phases, in their order. A phase begins with the event that its comment names.
const (
	Healthy  Phase = iota // the load
	Failing               // b2 answers 500
	Open                  // the circuit of b2 opened
	Healing               // b2 answers 200 again
	HalfOpen              // the circuit half-opened
	Closed                // the circuit closed
	phases                // length
)

var phaseNames = [phases]string{"healthy", "failing", "open", "healing", "half-open", "closed"}

var phaseSays = [phases]string{
	Healthy:  "three backends answer 200",
	Failing:  "b2 answers 500 from now on",
	Open:     "the circuit of b2 is open: the node's kernel answers for it",
	Healing:  "b2 is well again, the circuit does not know it yet",
	HalfOpen: "the circuit lets a few requests try",
	Closed:   "the circuit of b2 is closed: all is as before",
}

// String returns the name used in reports.
func (p Phase) String() string { return phaseNames[p] }

// Script sets the durations of the demo.
type Script struct {
	Healthy  time.Duration // load before b2 fails
	Open     time.Duration // open.duration of the policy
	Heal     time.Duration // from the opening to the healing; less than Open, so that the first probe succeeds
	Closed   time.Duration // load after the circuit closed
	Patience time.Duration // how much longer than Open a transition may take
	Limit    time.Duration // for the whole run
}

// DefaultScript takes about 14 seconds.
var DefaultScript = Script{
	Healthy:  4 * time.Second,
	Open:     5 * time.Second,
	Heal:     3 * time.Second,
	Closed:   4 * time.Second,
	Patience: 5 * time.Second,
	Limit:    time.Minute,
}

// expected is how long the demo takes if all goes well.
func (s Script) expected() time.Duration { return s.Healthy + s.Open + s.Closed }
