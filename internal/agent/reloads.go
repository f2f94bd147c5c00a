package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/policy"
)

// fitAgain is how long the agent waits before it tries again to put policies in force for which there was no room.
const fitAgain = int64(time.Second)

// reloads holds the results of the attempts to put policies in force. Agent.mu protects it.
type reloads struct {
	attempts, failures uint64
	lastError          string      // of the last attempt; empty when it succeeded
	unfit              *policy.Set // policies for which there was no room
	nextFit            int64
}

// onPolicies handles an update of the policies.
func (a *Agent) onPolicies(u policy.Update) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &a.reloads
	r.attempts++
	r.unfit = nil
	err := u.Err
	if err == nil {
		if err = a.applyPolicies(u.Set); err != nil {
			r.unfit, r.nextFit = u.Set, a.clock()+fitAgain
		}
	}
	if err != nil {
		r.failures++
		r.lastError = err.Error()
		a.log.Error("policies not reloaded, the old ones stay", "error", err)
		return
	}
	r.lastError = ""
}

// retryPolicies tries again to put policies in force for which there was no room in the tables: released places become free
// only after a pause.
func (a *Agent) retryPolicies(now int64) {
	r := &a.reloads
	if r.unfit == nil || now < r.nextFit {
		return
	}
	r.nextFit = now + fitAgain
	if err := a.applyPolicies(r.unfit); err != nil {
		r.lastError = err.Error()
		return
	}
	r.unfit = nil
	r.attempts++
	r.lastError = ""
}

// applyPolicies puts a set in force and starts the discovery of its backends. The lock is held.
func (a *Agent) applyPolicies(set *policy.Set) error {
	if err := a.apply(set); err != nil {
		return err
	}
	a.discover(set)
	a.interfaces.UseXDP(a.canUseXDP())
	return nil
}

// discover passes the targets of the policies to discovery. Addresses need no lookup: they are in force at once.
func (a *Agent) discover(set *policy.Set) {
	targets := make([]discovery.Target, len(set.Policies))
	for i, p := range set.Policies {
		t := discovery.Target{Policy: p.Name, Addresses: p.Match.Addresses}
		for _, h := range p.Match.Hosts {
			t.Hosts = append(t.Hosts, discovery.Host{Name: h.Host, Port: h.Port})
		}
		for _, s := range p.Match.Services {
			t.Services = append(t.Services, discovery.Service{Namespace: s.Namespace, Name: s.Name, Port: s.Port})
		}
		targets[i] = t
	}
	a.discovery.SetPolicies(targets)
}
