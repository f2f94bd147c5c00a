package breaker

import (
	"math"
	"time"
)

// Never is a moment after all others: the deadline if there is none.
const Never Time = math.MaxInt64

// EventKind is the kind of an event.
type EventKind uint8

// Kinds of events.
const (
	EventTransition EventKind = iota // the state changed from From to To
	EventOverflow                    // a trip that the ejection limits did not allow; nothing changed
	EventOverride                    // an override began or ended without a change of state
	eventKinds                       // length
)

// Reason is the cause of an event: a tripper or one of the constants below. String returns the name used in traces.
type Reason uint8

// Reasons. ReasonTrip+Reason(kind) is a trip by that tripper.
const (
	ReasonNone          Reason = iota
	ReasonDeadline             // the time of an opening or of an override has passed
	ReasonProbesPassed         // halfOpen.calls probes have finished
	ReasonProbeFailed          // more bad probes than tolerated; the last one failed or was slow
	ReasonProbeTimeout         // more bad probes than tolerated; the last one did not report in time
	ReasonRampPassed           // the ramp ended without a trip
	ReasonEjectionLimit        // fewer backends are known, or the limits did not allow a re-opening
	ReasonManual               // an operator's action
	ReasonReload               // new settings
	ReasonTrip                 // first of the trippers
)

var reasonNames = []string{"none", "deadline", "probesPassed", "probeFailed", "probeTimeout", "rampPassed",
	"ejectionLimit", "manual", "reload"}

// TripReason returns the reason of a trip by a tripper.
func TripReason(k TripKind) Reason { return ReasonTrip + Reason(k) }

// String returns the name used in traces, logs and metrics.
func (r Reason) String() string {
	if r >= ReasonTrip {
		return TripKind(r - ReasonTrip).String()
	}
	return name(reasonNames, uint8(r))
}

// Event is something that happened to a circuit. Methods append events to a buffer of the caller; there are no callbacks.
type Event struct {
	Kind       EventKind
	From, To   State
	Reason     Reason
	Source     Source  // the source that caused it
	HasNumbers bool    // Value and Threshold are valid
	Value      float64 // the compared value; durations in seconds
	Threshold  float64 // the value that it was compared with
	At         Time    // when it was due, even if it was noticed later
	Until      Time    // end of the state To, of the ramp, or of the operator's mode; Never when nothing ends it
	Jitter     time.Duration
	Step       int    // step of the backoff: openings less decayed steps; of an overflow: the step it would have had
	Generation uint32 // of the circuit from now on
	Mode       Mode   // in force from now on
	Circuit    *Circuit
	Group      string
	Backend    string // "*" for scope: policy
	Window     Metric // content of the window; a transition clears it
	Who, Why   string // of a manual event, or of the override that ended
}
