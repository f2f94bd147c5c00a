package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/places"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
)

// policyState is a policy in force.
type policyState struct {
	*policy.Policy
	group          *ledger.Group
	index          int // of the compiled policy in the kernel
	answers        []*places.Answer
	circuits       map[string]*circuitState // by the breaker's name of the backend
	learned        *discovery.Learned       // nil without cidrs
	ejected        int                      // backends that are ejected, as of the latest turn
	watchesPending bool
	reported       bool // discovery has reported the backends that it knows
	complete       bool // and these are all of them
	discoveryErr   error
}

// compile writes a policy and its answers to free places of the kernel's tables. No circuit refers to them yet.
func (f *inForce) compile(p *policy.Policy, now int64) (*policyState, error) {
	needs := ledger.NeedsOf(&p.Breaker)
	s := &policyState{Policy: p, circuits: map[string]*circuitState{}, watchesPending: needs.Pending}
	var err error
	if s.group, err = f.book.NewGroup(p.Name, p.Breaker, f.cfg.Seed, f.happened(s)); err != nil {
		return nil, err
	}
	index, err := f.policyPlaces.Take(now)
	if err != nil {
		return nil, err
	}
	s.index = index
	if len(p.Match.CIDRs) > 0 {
		if s.learned, err = discovery.NewLearned(f.cfg.MaxLearned, learnedIdle); err != nil {
			return nil, err
		}
	}
	settings, err := f.compileSettings(s, &needs, now)
	if err == nil {
		err = f.dp.PutPolicy(index, settings)
	}
	if err != nil {
		f.dropCompiled(s, now)
		return nil, err
	}
	return s, nil
}

func (f *inForce) compileSettings(s *policyState, needs *ledger.Needs, now int64) (tables.PolicySettings, error) {
	p := s.Policy
	out := tables.PolicySettings{
		Failure: p.Breaker.Outcome.Failure, Ignore: p.Breaker.Outcome.Ignore,
		Slow: needs.Slow, Timeout: p.Timeout, ConnectTimeout: p.ConnectTimeout, Patience: p.Patience,
		Direction: tables.Direction(p.Direction), Protocol: kernelProtocol(p.Protocol),
		Reject: tables.Reject(p.Reject.With), Existing: p.Reject.Existing,
		Every:      needs.Every,
		ExemptNode: p.Exempt.NodeHealthChecks, ExemptSome: len(p.Exempt.Sources) > 0,
		MaxConnections: uint32(p.Limits.MaxConnections), MaxRequests: uint32(p.Limits.MaxRequests),
		MaxRequestsPerConnection: uint32(p.Limits.MaxRequestsPerConnection),
	}
	if r := p.RateLimit; r != nil {
		out.RateLimit, out.RatePeriod, out.RateBurst = r.Limit, r.Period, r.Burst
	}
	if err := f.dp.SetExemptSources(s.index, p.Exempt.Sources); err != nil {
		return out, err
	}
	out.Answers, out.HTTP2Answers, out.GRPCAnswers = tables.NoAnswers(), tables.NoAnswers(), tables.NoAnswers()
	if p.Reject.With != policy.Respond {
		return out, nil
	}
	for i := range out.Answers {
		reason := tables.Rejection(i)
		spec := p.Reject.Answer.For(p.Name, reason.String())
		retry := p.Reject.RetryAfter && reason != tables.RejectedForcedOpen
		if reason == tables.RejectedRateLimit && p.RateLimit != nil {
			spec.Status = p.RateLimit.Status
		}
		for _, a := range []struct {
			at *int
			answer.Rendered
		}{
			{&out.Answers[i], answer.Render(spec, reason.String(), retry)},
			{&out.HTTP2Answers[i], answer.RenderHTTP2(spec, reason.String(), retry)},
			{&out.GRPCAnswers[i], answer.RenderGRPC(spec, reason.String())},
		} {
			stored, err := f.answers.Put(kernelAnswer(a.Rendered), now)
			if err != nil {
				return out, err
			}
			s.answers = append(s.answers, stored)
			*a.at = stored.Index
		}
	}
	return out, nil
}

func kernelAnswer(r answer.Rendered) tables.Answer {
	return tables.Answer{
		Bytes: r.Bytes, HeadLen: r.HeadLen, RetryAt: r.RetryAt, RetryPad: r.RetryPad, Status: r.Status, Frames: r.Frames,
	}
}

// kernelProtocol returns the programs' number of a protocol. They find out by themselves which requests are gRPC calls.
func kernelProtocol(p policy.Protocol) tables.Protocol {
	if p.Requests() {
		return tables.HTTP
	}
	return tables.TCP
}

func (f *inForce) dropCompiled(s *policyState, now int64) {
	for _, ans := range s.answers {
		f.answers.Release(ans, now)
	}
	s.answers = nil
	f.policyPlaces.Retire(s.index, now)
}

func (c *Config) policyTable() int { return tableSize(c.Datapath.Policies, 2048) }
func (c *Config) answerTable() int { return tableSize(c.Datapath.Answers, 12288) }
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
