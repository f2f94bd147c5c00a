package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
)

// reuseAfter is how long a table entry rests before it means something else: programs that run while it is given back
// are done in microseconds, connections that name a circuit are let go by then or by the sweep.
const (
	reusePolicyAfter  = time.Second
	reuseCircuitAfter = 5 * time.Minute
)

// policyState is a policy in force.
type policyState struct {
	*policy.Policy
	group          *breaker.Group
	index          int    // of the compiled policy in the kernel
	id             uint32 // the same over reloads
	answers        []*storedAnswer
	circuits       map[string]*circuitState // by the breaker's name of the backend
	learned        *discovery.Learned       // nil without cidrs
	watchesPending bool
	reported       bool // discovery has said what it knows
	complete       bool // and that is all
	discoveryErr   error
}

type storedAnswer struct {
	index int
	uses  int
	key   string
}

// answerTable keeps each distinct answer once.
type answerTable struct {
	byContent map[string]*storedAnswer
	slots     slots
}

func (a *Agent) onPolicies(u policy.Update) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reload.Attempts++
	err := u.Err
	if err == nil {
		err = a.applyPolicies(u.Set)
	}
	if err != nil {
		a.reload.Failures++
		a.reload.LastError = err.Error()
		a.log.Error("policies not reloaded, the old ones stay", "error", err)
		return
	}
	a.reload.LastError = ""
}

// applyPolicies makes a set the one in force. New tables are filled before any circuit names them; a backend that is
// refused stays refused throughout.
func (a *Agent) applyPolicies(set *policy.Set) error {
	now := loader.Now()
	diff := policy.Diff(a.set, set)
	for _, w := range set.Warnings {
		a.log.Warn("policy", "warning", w.Error())
	}
	// A policy whose circuits change their meaning is another one, with the same backends.
	remade := map[string][]discovery.Backend{}
	for _, name := range diff.Changed {
		old, want := a.policies[name].Policy, set.Find(name)
		if old.Breaker.Scope != want.Breaker.Scope || old.Direction != want.Direction || old.Protocol != want.Protocol {
			remade[name] = a.policies[name].allBackends()
		}
	}

	// Everything that can fail comes before anything changes.
	compiled := map[string]*policyState{}
	for _, name := range append(append([]string(nil), diff.Added...), diff.Changed...) {
		p, err := a.compile(set.Find(name), now)
		if err != nil {
			for _, done := range compiled {
				a.dropCompiled(done, now)
			}
			return fmt.Errorf("policy %s: %w", name, err)
		}
		compiled[name] = p
	}

	names := [2][]string{}
	for _, p := range set.Policies {
		names[p.Direction] = append(names[p.Direction], p.Name)
	}
	gone := append([]string(nil), diff.Removed...)
	for name := range remade {
		gone = append(gone, name)
	}
	for _, name := range gone {
		a.forgetPolicy(name, now)
	}
	for _, name := range append(diff.Added, diff.Changed...) {
		if old, ok := a.policies[name]; ok {
			a.exchange(old, compiled[name], now)
		} else {
			a.policies[name] = compiled[name]
			_, compiled[name].reported = remade[name]
		}
	}
	a.set = set
	a.reload.Loaded = time.Now()
	for dir := range names {
		a.assign(loader.Direction(dir), a.assigners[dir].SetPolicies(names[dir]), now)
	}
	for name, backends := range remade {
		dir := loader.Direction(a.policies[name].Direction)
		a.assign(dir, a.assigners[dir].Set(name, nil), now)
		a.assign(dir, a.assigners[dir].Set(name, backends), now)
	}
	if err := a.watchCIDRs(); err != nil {
		a.log.Error("networks of policies", "error", err)
	}
	a.discover(set)
	a.setXDP()
	a.log.Info("policies in force", "policies", len(set.Policies), "added", len(diff.Added), "changed", len(diff.Changed),
		"removed", len(diff.Removed))
	return nil
}

// discover hands what the policies match to discovery. Addresses need no lookup: they are in force at once.
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

// compile writes a policy and its answers into the kernel's tables, where nothing names them yet.
func (a *Agent) compile(p *policy.Policy, now int64) (*policyState, error) {
	group, err := breaker.NewGroup(p.Name, p.Breaker, a.cfg.Seed)
	if err != nil {
		return nil, err
	}
	index, ok := a.freeIDs.take(now, a.cfg.policyTable())
	if !ok {
		return nil, errors.New("the table of policies is full: raise --max-policies")
	}
	s := &policyState{
		Policy: p, group: group, index: index, id: uint32(index), circuits: map[string]*circuitState{},
		watchesPending: uses(&p.Breaker.Trip, breaker.TripPendingAge),
	}
	if len(p.Match.CIDRs) > 0 {
		if s.learned, err = discovery.NewLearned(a.cfg.MaxLearned, learnedIdle); err != nil {
			return nil, err
		}
	}
	settings, err := a.compileSettings(s, now)
	if err == nil {
		err = a.dp.PutPolicy(index, settings)
	}
	if err != nil {
		a.dropCompiled(s, now)
		return nil, err
	}
	return s, nil
}

func (a *Agent) compileSettings(s *policyState, now int64) (loader.PolicySettings, error) {
	p := s.Policy
	out := loader.PolicySettings{
		ID: s.id, Failure: p.Breaker.Outcome.Failure, Ignore: p.Breaker.Outcome.Ignore,
		Slow: slowest(p), Timeout: p.Timeout, ConnectTimeout: p.ConnectTimeout,
		Direction: loader.Direction(p.Direction), Protocol: loader.Protocol(p.Protocol),
		Reject: loader.Reject(p.Reject.With), Existing: p.Reject.Existing,
		Every:      needsEvery(p),
		ExemptNode: p.Exempt.NodeHealthChecks, ExemptSome: len(p.Exempt.Sources) > 0,
		MaxConnections: uint32(p.Limits.MaxConnections), MaxRequests: uint32(p.Limits.MaxRequests),
		MaxRequestsPerConnection: uint32(p.Limits.MaxRequestsPerConnection),
	}
	if r := p.RateLimit; r != nil {
		out.RateLimit, out.RatePeriod, out.RateBurst = r.Limit, r.Period, r.Burst
	}
	if err := a.dp.SetExemptSources(s.id, p.Exempt.Sources); err != nil {
		return out, err
	}
	for i := range out.Answers {
		out.Answers[i] = -1
		if p.Reject.With != policy.Respond {
			continue
		}
		reason := loader.Refusal(i)
		spec := p.Reject.Answer
		retry := p.Reject.RetryAfter && reason != loader.RefusedForcedOpen
		if reason == loader.RefusedRateLimit && p.RateLimit != nil {
			spec.Status = p.RateLimit.Status
		}
		stored, err := a.answers.put(a.dp, answer.Render(spec, reason.String(), retry), spec.Status, now, a.cfg.answerTable())
		if err != nil {
			return out, err
		}
		s.answers = append(s.answers, stored)
		out.Answers[i] = stored.index
	}
	return out, nil
}

func (t *answerTable) put(dp *loader.Datapath, r answer.Rendered, status int, now int64, limit int) (*storedAnswer, error) {
	key := string(r.Bytes)
	if s, ok := t.byContent[key]; ok {
		s.uses++
		return s, nil
	}
	index, ok := t.slots.take(now, limit)
	if !ok {
		return nil, errors.New("the table of answers is full: let policies share bodies, or raise --max-answers")
	}
	if err := dp.PutAnswer(index, loader.Answer{Bytes: r.Bytes, HeadLen: r.HeadLen, RetryAt: r.RetryAt, Status: status}); err != nil {
		t.slots.give(index, now)
		return nil, err
	}
	s := &storedAnswer{index: index, uses: 1, key: key}
	t.byContent[key] = s
	return s, nil
}

func (t *answerTable) release(s *storedAnswer, now int64) {
	if s.uses--; s.uses > 0 {
		return
	}
	delete(t.byContent, s.key)
	// Connections that were answered with it may still be told again.
	t.slots.give(s.index, now+int64(time.Minute))
}

func (a *Agent) dropCompiled(s *policyState, now int64) {
	for _, ans := range s.answers {
		a.answers.release(ans, now)
	}
	s.answers = nil
	a.freeIDs.give(s.index, now+int64(reusePolicyAfter))
}

// exchange puts new settings under a policy's circuits, which keep their state.
func (a *Agent) exchange(old, fresh *policyState, now int64) {
	for _, c := range old.circuits {
		a.catchUp(c, now)
	}
	events, err := old.group.Update(fresh.Breaker, breaker.Time(now), a.events[:0])
	if err != nil {
		// Scope cannot differ here, and the settings were valid for a new group.
		a.log.Error("settings of a policy", "policy", old.Name, "error", err)
	}
	for _, c := range old.circuits {
		a.dp.SetPolicy(c.id, fresh.index)
	}
	replaced := *old
	fresh.group, fresh.circuits, fresh.reported = old.group, old.circuits, old.reported
	fresh.complete, fresh.discoveryErr = old.complete, old.discoveryErr
	if fresh.learned != nil && old.learned != nil {
		fresh.learned = old.learned
	}
	for _, c := range fresh.circuits {
		c.policy = fresh
	}
	a.policies[fresh.Name] = fresh
	a.events = events
	a.carryOut(fresh)
	for _, c := range fresh.circuits {
		a.publish(c)
	}
	a.dropCompiled(&replaced, now)
}

// allBackends are those that discovery has found; the learned ones will be learned again.
func (p *policyState) allBackends() []discovery.Backend {
	var all []discovery.Backend
	for _, c := range p.circuits {
		for _, b := range c.backends {
			if b.Kind != discovery.KindLearned {
				all = append(all, b)
			}
		}
	}
	return all
}

func (a *Agent) forgetPolicy(name string, now int64) {
	p, ok := a.policies[name]
	if !ok {
		return
	}
	dir := loader.Direction(p.Direction)
	for _, c := range p.circuits {
		for addr := range c.backends {
			a.dropBackend(p, dir, addr, now)
		}
	}
	delete(a.policies, name)
	if err := a.dp.SetExemptSources(p.id, nil); err != nil {
		a.log.Error("exempt callers of a policy that is gone", "policy", name, "error", err)
	}
	a.dropCompiled(p, now)
}

// uses reports whether a tripper of that kind is in the tree.
func uses(t *breaker.Trip, kind breaker.TripKind) bool {
	if t.Kind == kind {
		return true
	}
	for i := range t.Children {
		if uses(&t.Children[i], kind) {
			return true
		}
	}
	return false
}

// walk calls f for every tripper of the tree.
func walk(t *breaker.Trip, f func(*breaker.Trip)) {
	f(t)
	for i := range t.Children {
		walk(&t.Children[i], f)
	}
}

// slowest is the smallest latency that makes any difference to the policy: above it the kernel tells each.
func slowest(p *policy.Policy) time.Duration {
	least := p.Breaker.Outcome.Slow
	walk(&p.Breaker.Trip, func(t *breaker.Trip) {
		if t.Kind == breaker.TripSlowRate && t.Over > 0 && (least == 0 || t.Over < least) {
			least = t.Over
		}
	})
	return least
}

// needsEvery reports whether plain successes matter one by one: their latency in a count window, or their class in a
// streak.
func needsEvery(p *policy.Policy) bool {
	every := false
	b := &p.Breaker
	walk(&b.Trip, func(t *breaker.Trip) {
		switch {
		case t.Kind == breaker.TripAvgLatency && b.Window.Type == breaker.WindowCount:
			every = true
		case t.Kind == breaker.TripConsecutiveFailures && t.Of != nil:
			for i := range t.Of {
				every = every || t.Of[i]&^b.Outcome.Failure[i] != 0
			}
		}
	})
	return every
}

func (c *Config) policyTable() int { return tableSize(c.Datapath.Policies, 2048) }
func (c *Config) answerTable() int { return tableSize(c.Datapath.Answers, 4096) }
func (c *Config) circuitTable() int {
	return tableSize(c.Datapath.Circuits, 16384)
}

func tableSize(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// learnedIdle is how long a learned backend stays without traffic.
const learnedIdle = 10 * time.Minute

// localAddresses are those of this node.
type localAddresses map[netip.Addr]bool
