package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/places"
	"github.com/cbagent/cbagent/internal/policy"
)

// policyState is a policy in force.
type policyState struct {
	*policy.Policy
	group          *ledger.Group
	index          int // of the compiled policy in the kernel
	answers        []*places.Answer
	circuits       map[string]*circuitState // by the breaker's name of the backend
	learned        *discovery.Learned       // nil without cidrs
	ejected        int                      // what the group said at the latest turn
	watchesPending bool
	reported       bool // discovery has said what it knows
	complete       bool // and that is all
	discoveryErr   error
}

func (a *Agent) onPolicies(u policy.Update) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reload.Attempts++
	a.unfit = nil
	err := u.Err
	if err == nil {
		if err = a.applyPolicies(u.Set); err != nil {
			a.unfit, a.nextFit = u.Set, a.clock()+fitAgain
		}
	}
	if err != nil {
		a.reload.Failures++
		a.reload.LastError = err.Error()
		a.log.Error("policies not reloaded, the old ones stay", "error", err)
		return
	}
	a.reload.LastError = ""
}

// fitAgain is how long the agent waits before it looks whether there is room now.
const fitAgain = int64(time.Second)

// retryPolicies puts policies in force for which there was no room in the tables: places that were in use rest a little
// before they are free.
func (a *Agent) retryPolicies(now int64) {
	if a.unfit == nil || now < a.nextFit {
		return
	}
	a.nextFit = now + fitAgain
	if err := a.applyPolicies(a.unfit); err != nil {
		a.reload.LastError = err.Error()
		return
	}
	a.unfit = nil
	a.reload.Attempts++
	a.reload.LastError = ""
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
	needs := ledger.NeedsOf(&p.Breaker)
	s := &policyState{Policy: p, circuits: map[string]*circuitState{}, watchesPending: needs.Pending}
	var err error
	if s.group, err = a.book.NewGroup(p.Name, p.Breaker, a.cfg.Seed, a.happened(s)); err != nil {
		return nil, err
	}
	index, err := a.policyPlaces.Take(now)
	if err != nil {
		return nil, err
	}
	s.index = index
	if len(p.Match.CIDRs) > 0 {
		if s.learned, err = discovery.NewLearned(a.cfg.MaxLearned, learnedIdle); err != nil {
			return nil, err
		}
	}
	settings, err := a.compileSettings(s, &needs, now)
	if err == nil {
		err = a.dp.PutPolicy(index, settings)
	}
	if err != nil {
		a.dropCompiled(s, now)
		return nil, err
	}
	return s, nil
}

func (a *Agent) compileSettings(s *policyState, needs *ledger.Needs, now int64) (loader.PolicySettings, error) {
	p := s.Policy
	out := loader.PolicySettings{
		ID: uint32(s.index), Failure: p.Breaker.Outcome.Failure, Ignore: p.Breaker.Outcome.Ignore,
		Slow: needs.Slow, Timeout: p.Timeout, ConnectTimeout: p.ConnectTimeout, Patience: p.Patience,
		Direction: loader.Direction(p.Direction), Protocol: loader.Protocol(p.Protocol),
		Reject: loader.Reject(p.Reject.With), Existing: p.Reject.Existing,
		Every:      needs.Every,
		ExemptNode: p.Exempt.NodeHealthChecks, ExemptSome: len(p.Exempt.Sources) > 0,
		MaxConnections: uint32(p.Limits.MaxConnections), MaxRequests: uint32(p.Limits.MaxRequests),
		MaxRequestsPerConnection: uint32(p.Limits.MaxRequestsPerConnection),
	}
	if r := p.RateLimit; r != nil {
		out.RateLimit, out.RatePeriod, out.RateBurst = r.Limit, r.Period, r.Burst
	}
	if err := a.dp.SetExemptSources(uint32(s.index), p.Exempt.Sources); err != nil {
		return out, err
	}
	for i := range out.Answers {
		out.Answers[i] = -1
		if p.Reject.With != policy.Respond {
			continue
		}
		reason := loader.Rejection(i)
		spec := p.Reject.Answer.For(reason.String())
		retry := p.Reject.RetryAfter && reason != loader.RejectedForcedOpen
		if reason == loader.RejectedRateLimit && p.RateLimit != nil {
			spec.Status = p.RateLimit.Status
		}
		r := answer.Render(spec, reason.String(), retry)
		stored, err := a.answers.Put(loader.Answer{Bytes: r.Bytes, HeadLen: r.HeadLen, RetryAt: r.RetryAt, Status: spec.Status}, now)
		if err != nil {
			return out, err
		}
		s.answers = append(s.answers, stored)
		out.Answers[i] = stored.Index
	}
	return out, nil
}

func (a *Agent) dropCompiled(s *policyState, now int64) {
	for _, ans := range s.answers {
		a.answers.Release(ans, now)
	}
	s.answers = nil
	a.policyPlaces.Retire(s.index, now)
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
