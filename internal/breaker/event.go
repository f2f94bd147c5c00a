package breaker

import (
	"math"
	"time"
)

// Never is a moment that does not come: the deadline of what has none.
const Never Time = math.MaxInt64

// EventKind tells events apart.
type EventKind uint8

// Kinds of events.
const (
	EventTransition EventKind = iota // the state changed from From to To
	EventOverflow                    // a trip that the ejection limits did not allow; nothing changed
	EventOverride                    // an operator's mode came or went without a change of state
	eventKinds                       // length
)

// Reason says what caused an event: a tripper or one of the constants below. String gives the name used in traces.
type Reason uint8

// Reasons. ReasonTrip+Reason(kind) is a trip by that tripper.
const (
	ReasonNone          Reason = iota
	ReasonDeadline             // the time of an opening or of an operator's mode was over
	ReasonProbesPassed         // as many probes as asked for have finished
	ReasonProbeFailed          // more bad probes than tolerated; the last one failed or was slow
	ReasonProbeTimeout         // more bad probes than tolerated; the last one did not report in time
	ReasonRampPassed           // the ramp ended without a trip
	ReasonEjectionLimit        // fewer backends are known, or a re-opening needed leave and there was none
	ReasonManual               // an operator's hand
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

// Event is something that happened to a circuit. Methods append events to a buffer of the client's; they call nobody.
type Event struct {
	Kind       EventKind
	From, To   State
	Reason     Reason
	Source     Source  // who caused it
	HasNumbers bool    // Value and Threshold mean something
	Value      float64 // what was compared; durations in seconds
	Threshold  float64 // what it was compared with
	At         Time    // when it was due, also when it was noticed later
	Until      Time    // end of the state To, of the ramp, or of the operator's mode; Never when nothing ends it
	Jitter     time.Duration
	Step       int    // openings so far less what was earned back; an overflow: the step it would have had
	Generation uint32 // of the circuit from now on
	Mode       Mode   // in force from now on
	Circuit    *Circuit
	Group      string
	Backend    string // "*" for scope: policy
	Window     Metric // what was in the window; a transition clears it
	Who, Why   string // of a manual event, or of the override that ended
}
