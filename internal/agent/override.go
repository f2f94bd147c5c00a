package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// noteDroppedOverride tells when a circuit leaves that an operator had laid hands on.
func (a *Agent) noteDroppedOverride(c *circuitState) {
	s := c.circuit.Status()
	if !s.Overridden {
		return
	}
	now := time.Now()
	a.record(view.Record{
		Time: now, Kind: view.KindDroppedOverride, Policy: c.policy.Name, Direction: c.policy.Direction.String(), Backend: c.name,
		From: s.State.String(), Mode: s.Override.Mode.String(), Cause: view.CauseDiscovery, Reason: "backendGone",
		Step: s.Step, By: s.Override.Who, Why: s.Override.Why,
	}, now)
}
