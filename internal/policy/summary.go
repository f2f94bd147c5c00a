package policy

import (
	"fmt"
	"strings"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Summary says in one line what the policy does.
func (p *Policy) Summary() string {
	b := &p.Breaker
	parts := []string{
		fmt.Sprintf("%s: %s, %s %s", p.Name, b.Mode, p.Direction, p.Protocol),
		p.Match.summary(b.Scope),
	}
	window := Size{Duration: Duration(b.Window.Size)}.String()
	if b.Window.Type == breaker.WindowCount {
		window = Size{Count: b.Window.Count, IsCount: true}.String()
	}
	parts = append(parts,
		fmt.Sprintf("opens when %s in %s", tripText(b.Trip, true), window),
		openText(b.Open), halfOpenText(b.HalfOpen))
	if text := ejectionText(b); text != "" {
		parts = append(parts, text)
	}
	parts = append(parts, p.rejectText())
	if p.RateLimit != nil {
		parts = append(parts, fmt.Sprintf("at most %d in %s", p.RateLimit.Limit, Duration(p.RateLimit.Period)))
	}
	return strings.Join(parts, "; ")
}

func (m *Match) summary(scope breaker.Scope) string {
	var parts []string
	for _, kind := range []struct {
		n         int
		one, many string
	}{
		{len(m.Addresses), "address", "addresses"}, {len(m.CIDRs), "prefix", "prefixes"},
		{len(m.Hosts), "host", "hosts"}, {len(m.Services), "service", "services"},
	} {
		switch kind.n {
		case 0:
		case 1:
			parts = append(parts, "1 "+kind.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", kind.n, kind.many))
		}
	}
	text := strings.Join(parts, ", ")
	if scope == breaker.ScopePolicy {
		text += " as one circuit"
	}
	return text
}

// String returns a window's size in words.
func (z Size) String() string {
	if z.IsCount {
		return fmt.Sprintf("the last %d outcomes", z.Count)
	}
	return z.Duration.String()
}

func tripText(t breaker.Trip, top bool) string {
	switch t.Kind {
	case breaker.TripAny, breaker.TripAll:
		word := " or "
		if t.Kind == breaker.TripAll {
			word = " and "
		}
		parts := make([]string, len(t.Children))
		for i, child := range t.Children {
			parts[i] = tripText(child, len(t.Children) == 1 && top)
		}
		text := strings.Join(parts, word)
		if top || len(parts) == 1 {
			return text
		}
		return "(" + text + ")"
	case breaker.TripNot:
		return "not " + tripText(t.Children[0], false)
	case breaker.TripFailureRate:
		return fmt.Sprintf("failureRate >= %v", t.Rate)
	case breaker.TripSlowRate:
		return fmt.Sprintf("slowRate >= %v", t.Rate)
	case breaker.TripAvgLatency, breaker.TripPendingAge:
		return fmt.Sprintf("%s >= %s", t.Kind, Duration(t.Over))
	case breaker.TripSuccessRateOutlier:
		return fmt.Sprintf("success rate %v deviations below the others", t.Stdev)
	case breaker.TripState:
		return t.State.String()
	}
	return fmt.Sprintf("%s >= %d", t.Kind, t.N)
}

func openText(o breaker.Open) string {
	text := "for " + Duration(o.Duration).String()
	if o.Backoff != breaker.BackoffNone {
		text += fmt.Sprintf(", %s up to %s", o.Backoff, Duration(o.Max))
	}
	return text
}

func halfOpenText(h breaker.HalfOpen) string {
	switch {
	case h.Ramp != nil:
		return fmt.Sprintf("then a share of %v to %v over %s", h.Ramp.From, h.Ramp.To, Duration(h.Ramp.Over))
	case h.Calls == 0:
		return "then closed at once"
	case h.Calls == 1:
		return "then 1 probe"
	}
	return fmt.Sprintf("then %d probes", h.Calls)
}

// ejectionText says what the ejection limits are; empty where there are none.
func ejectionText(b *breaker.Settings) string {
	if b.Scope != breaker.ScopeBackend {
		return ""
	}
	var parts []string
	if b.Ejection.MaxPercent < 100 {
		parts = append(parts, fmt.Sprintf("ejects at most %g%%", b.Ejection.MaxPercent))
	}
	if b.Ejection.MinHealthy > 0 {
		parts = append(parts, fmt.Sprintf("leaves at least %d", b.Ejection.MinHealthy))
	}
	return strings.Join(parts, ", ")
}

func (p *Policy) rejectText() string {
	if p.Reject.With == Respond && p.Protocol == GRPC {
		return "answers " + breaker.ResultGRPC(p.Reject.Answer.GRPCStatus).String()
	}
	if p.Reject.With == Respond {
		return fmt.Sprintf("answers %d", p.Reject.Answer.Status)
	}
	if p.Reject.With == Drop {
		return "drops clients"
	}
	return "resets clients"
}
