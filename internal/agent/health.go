package agent

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
)

// stuckAfter is how long the event loop may take for one turn before the agent counts as dead. Its lease is at least as
// long as a second, and renewed at each turn when it is due.
const stuckAfter = 5 * time.Second

// health is the state behind the health and readiness checks.
type health struct {
	started time.Time
	ticked  atomic.Int64 // wall-clock time in ns of the last turn of the event loop; 0: there was none

	// Agent.mu protects the fields below.
	ready bool  // policies are in force and interfaces attached
	waits error // why the first policies are not in force yet
}

// Healthy returns nil while the event loop turns, or has not begun to.
func (a *Agent) Healthy() error {
	last := a.health.ticked.Load()
	if last == 0 {
		return nil
	}
	if since := time.Since(time.Unix(0, last)); since > stuckAfter {
		return fmt.Errorf("the event loop has not turned for %s", since.Round(time.Millisecond))
	}
	return nil
}

// Ready returns nil when policies are in force and interfaces attached, or all that the agent waits for.
func (a *Agent) Ready() error {
	if err := a.Healthy(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waitsFor()
}

// waitsFor returns the error of Ready. The lock is held.
func (a *Agent) waitsFor() error {
	switch {
	case a.set == nil && a.health.waits != nil:
		return fmt.Errorf("no policies are in force: %w", a.health.waits)
	case a.set == nil:
		return errors.New("no policies are in force yet")
	}
	var errs []error
	for _, p := range a.set.Policies {
		s := a.policies[p.Name]
		var refused *discovery.KubeError
		switch {
		case s == nil:
		case !s.reported:
			errs = append(errs, fmt.Errorf("policy %s waits for discovery", p.Name))
		case !s.complete && errors.As(s.discoveryErr, &refused):
			// A name that does not exist does not make the node unready; an API that cannot be read does.
			errs = append(errs, fmt.Errorf("policy %s is not in force: %w", p.Name, s.discoveryErr))
		}
	}
	if len(errs) == 0 && !a.health.ready {
		return errors.New("interfaces are being attached")
	}
	return errors.Join(errs...)
}
