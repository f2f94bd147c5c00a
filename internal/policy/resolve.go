package policy

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/breaker"
)

// resolve makes a Policy of what was read, and reports what involves more than one key. The result is only to be used
// if the file had no errors.
func (s *scope) resolve(spec *Spec) *Policy {
	p := &Policy{
		Name:     spec.Name,
		Match:    s.match(&spec.Match),
		Exempt:   Exempt{NodeHealthChecks: spec.Exempt.NodeHealthChecks, Sources: s.sources(spec.Exempt.Sources)},
		Limits:   Limits(spec.Limits),
		Position: s.position(s.whole),
	}
	s.name(spec)
	if s.sound("direction", "protocol", "reject.with") {
		p.Direction = enum[Direction](spec.Direction)
		p.Protocol = enum[Protocol](spec.Protocol)
		p.Reject = s.rejection(spec, p.Protocol)
	}
	p.Timeout = time.Duration(spec.Outcome.Timeout)
	p.Patience = time.Duration(spec.Outcome.Patience)
	p.ConnectTimeout = time.Duration(spec.Outcome.ConnectTimeout)
	p.RateLimit = s.rateLimit(spec)
	p.Breaker = breaker.Settings{
		Window:   s.window(&spec.Window),
		Open:     s.open(&spec.Open),
		HalfOpen: s.halfOpen(&spec.HalfOpen),
		Ejection: breaker.Ejection(spec.Ejection),
	}
	if s.sound("mode", "scope") {
		p.Breaker.Mode = enum[breaker.Mode](spec.Mode)
		p.Breaker.Scope = enum[breaker.Scope](spec.Scope)
	}
	if s.sound("outcome.failure", "outcome.ignore") {
		p.Breaker.Outcome = s.outcomeRules(&spec.Outcome)
		p.Breaker.Outcome.Slow = time.Duration(spec.Outcome.Slow)
	}
	if s.sound("trip") {
		p.Breaker.Trip = spec.Trip.compile()
		s.checkTrip(p.Breaker.Trip)
	}
	if len(s.bad) == 0 {
		for _, problem := range p.Breaker.Problems() {
			s.reject(problem.Key, "%s, got %s", problem.Want, problem.Got)
		}
	}
	return p
}

func (s *scope) name(spec *Spec) {
	switch {
	case !s.given("name"):
		s.reject("name", "is required")
	case s.sound("name") && !labelPattern.MatchString(spec.Name):
		s.reject("name", "must be a DNS label (1 to 63 of a-z, 0-9 and -, not at the ends), got %q", spec.Name)
	}
}

func (s *scope) match(spec *MatchSpec) Match {
	var m Match
	m.Addresses = targets(s, "match.addresses", spec.Addresses, parseAddress)
	m.CIDRs = targets(s, "match.cidrs", spec.CIDRs, func(text string) (CIDR, error) {
		c, masked, err := parseCIDR(text)
		if masked {
			return c, fmt.Errorf("must have no bits after the prefix, got %q; it would be %s:%d", text, c.Prefix, c.Port)
		}
		return c, err
	})
	m.Hosts = targets(s, "match.hosts", spec.Hosts, parseHost)
	m.Services = targets(s, "match.services", spec.Services, parseService)
	if len(spec.Addresses)+len(spec.CIDRs)+len(spec.Hosts)+len(spec.Services) == 0 &&
		s.sound("match", "match.addresses", "match.cidrs", "match.hosts", "match.services") {
		s.reject("match", "must have at least one of addresses, cidrs, hosts and services")
	}
	return m
}

// targets parses the entries of a list and drops repetitions.
func targets[T comparable](s *scope, path string, texts []string, parse func(string) (T, error)) []T {
	var all []T
	first := make(map[T]int, len(texts))
	for i, text := range texts {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !s.sound(at) {
			continue
		}
		target, err := parse(text)
		if err != nil {
			s.reject(at, "%s", err)
			continue
		}
		if before, twice := first[target]; twice {
			s.warn(at, "is the same as entry %d of this list", before)
			continue
		}
		first[target] = i
		all = append(all, target)
		s.entryOf[path] = append(s.entryOf[path], i)
	}
	return all
}

func (s *scope) sources(texts []string) []netip.Prefix {
	return targets(s, "exempt.sources", texts, func(text string) (netip.Prefix, error) {
		prefix, err := parsePrefix(text)
		if err == nil && prefix != prefix.Masked() {
			err = fmt.Errorf("must have no bits after the prefix, got %q; it would be %s", text, prefix.Masked())
		}
		return prefix, err
	})
}

// origin says, for messages about two keys that do not fit, where the one at path comes from if not from here.
func (s *scope) origin(path string) string {
	if !s.inherited(path) {
		return ""
	}
	return fmt.Sprintf(" (inherited by %s in line %d; null takes it back)", s.prefix, s.whole.Line)
}

func (s *scope) open(spec *OpenSpec) breaker.Open {
	limit := spec.Max
	if !s.given("open.max") {
		limit = max(limit, spec.Duration)
	} else if s.sound("open.max", "open.duration") && limit < spec.Duration {
		s.warn("open.max", "%s is below open.duration, %s: every opening lasts %s", limit, spec.Duration, limit)
	}
	o := breaker.Open{
		Duration:   time.Duration(spec.Duration),
		Multiplier: spec.Multiplier,
		Max:        time.Duration(limit),
		Jitter:     spec.Jitter,
	}
	if s.sound("open.backoff") {
		o.Backoff = enum[breaker.Backoff](spec.Backoff)
	}
	return o
}

func (s *scope) halfOpen(spec *HalfOpenSpec) breaker.HalfOpen {
	h := breaker.HalfOpen{
		Calls:      spec.Calls,
		Concurrent: spec.Concurrent,
		Tolerate:   spec.Tolerate,
		Timeout:    time.Duration(spec.Timeout),
	}
	if !s.given("halfOpen.concurrent") {
		h.Concurrent = spec.Calls
	}
	if spec.Ramp != nil {
		ramp := breaker.Ramp{From: spec.Ramp.From, To: spec.Ramp.To, Over: time.Duration(spec.Ramp.Over)}
		h.Ramp = &ramp
		if s.sound("halfOpen.ramp.from", "halfOpen.ramp.to") && ramp.From > ramp.To {
			s.reject("halfOpen.ramp.from", "must be at most to, which is %v, got %v", ramp.To, ramp.From)
		}
	}
	if !s.sound("halfOpen.calls") || h.Calls == 0 || h.Ramp != nil {
		return h // nothing else applies
	}
	if s.sound("halfOpen.concurrent") && h.Concurrent > h.Calls {
		s.reject("halfOpen.concurrent", "must be at most calls, which is %d, got %d%s",
			h.Calls, h.Concurrent, s.origin("halfOpen.concurrent"))
	}
	if s.sound("halfOpen.concurrent") && h.Concurrent == 0 {
		s.reject("halfOpen.concurrent", "must be between 1 and calls, which is %d, got 0", h.Calls)
	}
	if s.sound("halfOpen.tolerate") && h.Tolerate >= h.Calls {
		s.reject("halfOpen.tolerate", "must be below calls, which is %d, got %d%s",
			h.Calls, h.Tolerate, s.origin("halfOpen.tolerate"))
	}
	return h
}

func (s *scope) rateLimit(spec *Spec) *RateLimit {
	if spec.RateLimit == nil {
		return nil
	}
	r := *spec.RateLimit
	if !s.given("rateLimit.limit") {
		s.reject("rateLimit.limit", "is required")
	}
	if !s.given("rateLimit.burst") {
		r.Burst = r.Limit
	}
	if s.sound("rateLimit.limit", "rateLimit.period") && time.Duration(r.Period).Nanoseconds() < int64(r.Limit) {
		s.reject("rateLimit.limit", "must be at most one in a nanosecond, got %d in %s", r.Limit, r.Period)
	}
	if s.sound("rateLimit.status") {
		if err := answer.CheckStatus(r.Status); err != nil {
			s.reject("rateLimit.status", "%s", err)
		}
	}
	return &RateLimit{Limit: r.Limit, Period: time.Duration(r.Period), Burst: r.Burst, Status: r.Status}
}
