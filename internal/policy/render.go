package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Spec returns the policy as it could be written, with every default filled in. Reading it gives an equal policy.
func (p *Policy) Spec() Spec {
	b := &p.Breaker
	spec := Spec{
		Name:  p.Name,
		Match: p.Match.spec(),
		Keys: Keys{
			Mode:      b.Mode.String(),
			Scope:     b.Scope.String(),
			Direction: p.Direction.String(),
			Protocol:  p.Protocol.String(),
			Exempt:    ExemptSpec{NodeHealthChecks: p.Exempt.NodeHealthChecks, Sources: texts(p.Exempt.Sources, netip.Prefix.String)},
			Outcome: OutcomeSpec{
				Failure:        outcomesOf(b.Outcome.Failure),
				Ignore:         outcomesOf(b.Outcome.Ignore),
				Slow:           Duration(b.Outcome.Slow),
				Timeout:        Duration(p.Timeout),
				Patience:       Duration(p.Patience),
				ConnectTimeout: Duration(p.ConnectTimeout),
			},
			Window: WindowSpec{
				Type:   b.Window.Type.String(),
				Size:   Size{Duration: Duration(b.Window.Size)},
				Bucket: Duration(b.Window.Bucket),
			},
			Trip: tripOf(b.Trip),
			Open: OpenSpec{
				Duration:   Duration(b.Open.Duration),
				Backoff:    b.Open.Backoff.String(),
				Multiplier: b.Open.Multiplier,
				Max:        Duration(b.Open.Max),
				Jitter:     b.Open.Jitter,
			},
			HalfOpen: HalfOpenSpec{
				Calls:      b.HalfOpen.Calls,
				Concurrent: b.HalfOpen.Concurrent,
				Tolerate:   b.HalfOpen.Tolerate,
				Timeout:    Duration(b.HalfOpen.Timeout),
			},
			Ejection: EjectionSpec(b.Ejection),
			Reject: RejectSpec{
				With:        p.Reject.With.String(),
				Existing:    p.Reject.Existing,
				Status:      p.Reject.Answer.Status,
				GRPCStatus:  p.Reject.Answer.GRPCStatus,
				Message:     p.Reject.Answer.Message,
				ContentType: p.Reject.Answer.ContentType,
				Body:        p.Reject.Answer.Body,
				RetryAfter:  p.Reject.RetryAfter,
				Headers:     map[string]string{},
			},
			Limits: LimitsSpec(p.Limits),
		},
	}
	if b.Window.Type == breaker.WindowCount {
		spec.Window.Size = Size{Count: b.Window.Count, IsCount: true}
	}
	if ramp := b.HalfOpen.Ramp; ramp != nil {
		spec.HalfOpen.Ramp = &RampSpec{From: ramp.From, To: ramp.To, Over: Duration(ramp.Over)}
	}
	for _, h := range p.Reject.Answer.Headers {
		spec.Reject.Headers[h.Name] = h.Value
	}
	if r := p.RateLimit; r != nil {
		spec.RateLimit = &RateLimitSpec{Limit: r.Limit, Period: Duration(r.Period), Burst: r.Burst, Status: r.Status}
	}
	return spec
}

func (m *Match) spec() MatchSpec {
	return MatchSpec{
		Addresses: texts(m.Addresses, netip.AddrPort.String),
		CIDRs:     texts(m.CIDRs, CIDR.String),
		Hosts:     texts(m.Hosts, Host.String),
		Services:  texts(m.Services, Service.String),
	}
}

// String returns PREFIX:PORT.
func (c CIDR) String() string { return fmt.Sprintf("%s:%d", c.Prefix, c.Port) }

// String returns NAME:PORT.
func (h Host) String() string { return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))) }

// String returns NAMESPACE/NAME:PORT.
func (s Service) String() string { return s.Namespace + "/" + s.Name + ":" + s.Port }

func texts[T any](targets []T, text func(T) string) []string {
	if len(targets) == 0 {
		return nil
	}
	all := make([]string, len(targets))
	for i, target := range targets {
		all[i] = text(target)
	}
	return all
}

// MarshalJSON returns Spec as JSON.
func (p *Policy) MarshalJSON() ([]byte, error) { return marshalJSON(p.Spec()) }

// MarshalYAML returns Spec for a YAML encoder, with the keys in the order of the reference.
func (p *Policy) MarshalYAML() (any, error) { return yamlOf(p.Spec()) }

// file returns the set as a file could say it.
func (s *Set) file() File {
	f := File{Version: 1, Policies: []Spec{}}
	for _, p := range s.Policies {
		f.Policies = append(f.Policies, p.Spec())
	}
	return f
}

// MarshalJSON returns a policy file in JSON with every default filled in.
func (s *Set) MarshalJSON() ([]byte, error) { return marshalJSON(s.file()) }

// MarshalYAML returns a policy file with every default filled in for a YAML encoder.
func (s *Set) MarshalYAML() (any, error) { return yamlOf(s.file()) }

// YAML returns a policy file with every default filled in.
func (s *Set) YAML() ([]byte, error) { return dump(s.file()) }

// YAML returns Spec as YAML.
func (p *Policy) YAML() ([]byte, error) { return dump(p.Spec()) }

func dump(v any) ([]byte, error) {
	node, err := yamlOf(v)
	if err != nil {
		return nil, err
	}
	return yaml.Dump(node)
}

// yamlOf goes by way of JSON, so that the types have one set of tags and methods.
func yamlOf(v any) (*yaml.Node, error) {
	data, err := marshalJSON(v)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Load(data, &node); err != nil {
		return nil, fmt.Errorf("make YAML of a policy: %w", err)
	}
	plain(&node)
	return node.Content[0], nil
}

// plain takes away the brackets and quotes of JSON; the encoder puts back the quotes that are needed.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}

// marshalJSON leaves <, > and & as they are.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("make JSON of a policy: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
