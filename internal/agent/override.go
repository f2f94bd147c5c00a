package agent

import (
	"fmt"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
)

// savePatience is how long Override waits for the disk. It is shorter than the time that commands wait for the answer.
const savePatience = 2 * time.Second

// Override applies an operator's order to the circuits of a target, some at a time, and returns the result of each. An
// override of a whole policy also applies to backends that are added later. When Override returns, the state file contains
// the override, or the warning says why not.
func (a *Agent) Override(t control.Target, o control.Order) control.Overridden {
	changes, saved, ok := a.override(t, o)
	done := control.Overridden{Changes: changes}
	if !ok {
		return done
	}
	if err := a.saver.Await(saved, savePatience); err != nil {
		lost := "the reason and who gave it"
		if t.Backend == "" {
			lost += ", and of a whole policy what is meant for backends to come"
		}
		done.Warning = fmt.Sprintf("in force, but not saved: %v; the agent goes on trying. Until then a restart of the agent forgets %s", err, lost)
	}
	return done
}

// override applies the order and returns the number of the state to be saved. ok is false if the agent is closed.
func (a *Agent) override(t control.Target, o control.Order) (changes []control.Change, saved uint64, ok bool) {
	a.viewing.RLock()
	defer a.viewing.RUnlock()
	if a.closed {
		return nil, 0, false
	}
	a.mu.Lock()
	now := a.clock()
	var all []*circuitState
	var set policy.Set
	if a.set != nil {
		set = *a.set
	}
	for _, p := range set.Policies {
		if s := a.policies[p.Name]; s != nil && (t.Policy == "" || t.Policy == p.Name) {
			if t.Backend == "" {
				a.setStanding(p.Name, o, now)
			}
			for _, c := range s.circuits {
				if t.Has(p.Name, c.name) {
					all = append(all, c)
				}
			}
		}
	}
	a.mu.Unlock()

	changes = make([]control.Change, 0, len(all))
	for len(all) > 0 {
		n := min(len(all), viewChunk)
		a.mu.Lock()
		for _, c := range all[:n] {
			if a.circuits[c.id] == c {
				changes = append(changes, a.applyOverride(c, o))
			}
		}
		a.mu.Unlock()
		all = all[n:]
	}
	a.mu.Lock()
	saved = a.saver.Save()
	a.mu.Unlock()
	control.SortChanges(changes)
	return changes, saved, true
}

// applyOverride applies an operator's order to one circuit.
func (f *inForce) applyOverride(c *circuitState, o control.Order) control.Change {
	before := c.circuit.Status()
	now := breaker.Time(f.clock())
	change := control.Change{Policy: c.policy.Name, Backend: c.name, From: before.State.String()}
	switch o.Action {
	case control.ActionOpen, control.ActionDisable:
		c.circuit.Impose(now, overrideOf(o, now))
	case control.ActionAuto:
		if !before.Overridden {
			change.Note = "nothing to take back"
		}
		c.circuit.Auto(now, o.By, o.Reason)
	case control.ActionClose:
		if before.Overridden {
			c.circuit.Auto(now, o.By, o.Reason)
		}
		c.circuit.Close(now, o.By, o.Reason)
	}
	f.saver.Changed()
	after := c.circuit.Status()
	change.To, change.Mode = after.State.String(), after.Mode.String()
	until := after.Until
	if after.Overridden {
		until = after.Override.Until
	}
	if until != breaker.Never {
		wall := time.Now().Add(until.Sub(now))
		change.Until = &wall
	}
	if o.Action == control.ActionClose && after.State != breaker.StateClosed {
		change.Note = "the policy's mode is " + after.Mode.String() + ": change the policy, or use disable"
	} else if o.Action == control.ActionClose && before.State == breaker.StateClosed {
		change.Note = "was closed already"
	}
	return change
}

// overrideOf returns the override that an order to open or to disable asks for.
func overrideOf(o control.Order, now breaker.Time) breaker.Override {
	mode := breaker.ModeForcedOpen
	if o.Action == control.ActionDisable {
		mode = breaker.ModeDisabled
	}
	until := breaker.Never
	if o.For > 0 {
		until = now.Add(o.For)
	}
	return breaker.Override{Mode: mode, Until: until, Who: o.By, Why: o.Reason}
}

// setStanding stores the override of a whole policy, or removes it.
func (f *inForce) setStanding(policy string, o control.Order, now int64) {
	f.saver.Changed()
	delete(f.standing, policy)
	if o.Action == control.ActionOpen || o.Action == control.ActionDisable {
		f.standing[policy] = overrideOf(o, breaker.Time(now))
	}
}

// applyStanding applies the override of the whole policy, if there is one, to a new circuit.
func (f *inForce) applyStanding(c *circuitState, now int64) {
	o, ok := f.standing[c.policy.Name]
	if !ok || c.circuit.Status().Overridden {
		return
	}
	if o.Until <= breaker.Time(now) {
		delete(f.standing, c.policy.Name)
		return
	}
	c.circuit.Impose(breaker.Time(now), o)
}

// noteDroppedOverride records that a circuit with an operator's override is removed.
func (f *inForce) noteDroppedOverride(c *circuitState) {
	s := c.circuit.Status()
	if !s.Overridden {
		return
	}
	now := time.Now()
	f.records.Add(view.Record{
		Time: now, Kind: view.KindDroppedOverride, Policy: c.policy.Name, Direction: c.policy.Direction.String(), Backend: c.name,
		From: s.State.String(), Mode: s.Override.Mode.String(), Cause: view.CauseDiscovery, Reason: "backendGone",
		Step: s.Step, By: s.Override.Who, Why: s.Override.Why,
	}, now)
}
