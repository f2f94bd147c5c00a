package records

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/view"
)

// overflowEvery is the shortest time between two records of overflows of one circuit.
const overflowEvery = 10 * time.Second

// Trail is a summary of a circuit's events so far. The zero value is that of a new circuit. The agent's lock protects it.
type Trail struct {
	Transitions []view.Transition
	RejectedAt  uint64       // clients rejected in all when it last left closed
	Last        *view.Record // nil: nothing happened yet
	overflow    int64        // when one was recorded last
}

// due reports whether an event is to be recorded. While a window overflows there is an event for each outcome: all are
// counted, few are recorded.
func (t *Trail) due(e *breaker.Event, now int64) bool {
	switch {
	case e.Kind == breaker.EventTransition:
		t.overflow = 0
	case e.Kind == breaker.EventOverflow:
		if t.overflow != 0 && now < t.overflow+int64(overflowEvery) {
			return false
		}
		t.overflow = now
	}
	return true
}

// count counts a transition by its states and reason. rejected is how many clients were rejected in all.
func (t *Trail) count(e *breaker.Event, rejected uint64) {
	if e.Kind != breaker.EventTransition {
		return
	}
	if e.From == breaker.StateClosed {
		t.RejectedAt = rejected
	}
	for i := range t.Transitions {
		if k := &t.Transitions[i]; k.From == e.From && k.To == e.To && k.Reason == e.Reason {
			k.Count++
			return
		}
	}
	t.Transitions = append(t.Transitions, view.Transition{From: e.From, To: e.To, Reason: e.Reason, Count: 1})
}
