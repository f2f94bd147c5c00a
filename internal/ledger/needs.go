package ledger

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Needs is what the programs must report for the trippers of a policy.
type Needs struct {
	Slow    time.Duration // a longer latency needs an event; 0 = none does. The smallest threshold of the policy
	Every   bool          // each plain success needs an event
	Pending bool          // when the oldest unanswered request was sent
}

// NeedsOf returns what the programs must report for settings. Every is needed where plain successes matter one by one:
// their latency in a count window, or their class in a streak.
func NeedsOf(s *breaker.Settings) Needs {
	n := Needs{Slow: s.Outcome.Slow}
	walk(&s.Trip, func(t *breaker.Trip) {
		switch t.Kind {
		case breaker.TripSlowRate:
			if t.Over > 0 && (n.Slow == 0 || t.Over < n.Slow) {
				n.Slow = t.Over
			}
		case breaker.TripAvgLatency:
			n.Every = n.Every || s.Window.Type == breaker.WindowCount
		case breaker.TripConsecutiveFailures:
			n.Every = n.Every || t.Of != nil && !subset(t.Of, &s.Outcome.Failure)
		case breaker.TripPendingAge:
			n.Pending = true
		}
	})
	return n
}

// walk calls f for every tripper of the tree.
func walk(t *breaker.Trip, f func(*breaker.Trip)) {
	f(t)
	for i := range t.Children {
		walk(&t.Children[i], f)
	}
}

// subset reports whether all results of a are in b.
func subset(a, b *breaker.ResultSet) bool {
	for i := range a {
		if a[i]&^b[i] != 0 {
			return false
		}
	}
	return true
}
