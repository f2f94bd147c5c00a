package agent

import (
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/view"
)

// countTransition counts one by its states and reason.
func (c *circuitState) countTransition(e *breaker.Event) {
	if e.Kind != breaker.EventTransition {
		return
	}
	for i := range c.transitions {
		if t := &c.transitions[i]; t.From == e.From && t.To == e.To && t.Reason == e.Reason {
			t.Count++
			return
		}
	}
	c.transitions = append(c.transitions, view.Transition{From: e.From, To: e.To, Reason: e.Reason, Count: 1})
}
