package agent

import (
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/unreachable"
)

// unreachableCircuits yields the circuits in force for package unreachable. It holds the lock meanwhile.
func (a *Agent) unreachableCircuits(yield func(unreachable.Circuit) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.circuits {
		if c == nil {
			continue
		}
		with := c.policy.Reject.With
		if !yield(unreachable.Circuit{
			ID: c.id, Direction: tables.Direction(c.policy.Direction), Backends: c.backends, Verdict: a.dp.Published(c.id),
			// A policy that drops sends no answer; connect() rejects processes of the cgroup, before there is a packet.
			Answers: with == policy.Respond || with == policy.Reset && a.cfg.Connect == "",
		}) {
			return
		}
	}
}
