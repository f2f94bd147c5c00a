package agent

import (
	"fmt"
	"time"
)

// stuckAfter is how long the event loop may take for one turn before the agent counts as dead. Its lease is at least as
// long as a second, and renewed at each turn when it is due.
const stuckAfter = 5 * time.Second

// Healthy returns nil while the event loop turns, or has not begun to.
func (a *Agent) Healthy() error {
	last := a.ticked.Load()
	if last == 0 {
		return nil
	}
	if since := time.Since(time.Unix(0, last)); since > stuckAfter {
		return fmt.Errorf("the event loop has not turned for %s", since.Round(time.Millisecond))
	}
	return nil
}

// Ready returns nil when policies are in force and interfaces attached.
func (a *Agent) Ready() error {
	if err := a.Healthy(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ready:
		return nil
	case a.set == nil:
		return fmt.Errorf("no policies are in force yet")
	}
	for _, p := range a.set.Policies {
		if s := a.policies[p.Name]; s != nil && !s.reported {
			return fmt.Errorf("policy %s waits for discovery", p.Name)
		}
	}
	return fmt.Errorf("starting")
}
