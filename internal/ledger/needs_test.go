package ledger

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

func TestNeeds(t *testing.T) {
	const short, long = 10 * time.Millisecond, time.Second
	set := func(results ...breaker.Result) *breaker.ResultSet {
		var s breaker.ResultSet
		for _, r := range results {
			s.Add(r)
		}
		return &s
	}
	slow := func(over time.Duration) breaker.Trip {
		return breaker.Trip{Kind: breaker.TripSlowRate, Rate: 0.5, Over: over}
	}
	mean := breaker.Trip{Kind: breaker.TripAvgLatency, Over: long}
	streakOf := func(of *breaker.ResultSet) breaker.Trip {
		return breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 3, Of: of}
	}
	pending := breaker.Trip{Kind: breaker.TripPendingAge, Over: long}
	within := func(kind breaker.TripKind, trips ...breaker.Trip) breaker.Trip {
		return breaker.Trip{Kind: kind, Children: trips}
	}
	for name, c := range map[string]struct {
		window breaker.WindowType
		slow   time.Duration
		trip   breaker.Trip
		want   Needs
	}{
		"nothing":                       {trip: streakOf(nil)},
		"outcome.slow":                  {slow: long, trip: streakOf(nil), want: Needs{Slow: long}},
		"a tripper's threshold":         {trip: slow(short), want: Needs{Slow: short}},
		"the tripper's is smaller":      {slow: long, trip: slow(short), want: Needs{Slow: short}},
		"outcome.slow is smaller":       {slow: short, trip: slow(long), want: Needs{Slow: short}},
		"a tripper without a threshold": {slow: long, trip: slow(0), want: Needs{Slow: long}},
		"the smallest of two, nested": {slow: time.Minute, trip: within(breaker.TripAny, slow(long), within(breaker.TripNot, slow(short))),
			want: Needs{Slow: short}},
		"mean of a time window":    {window: breaker.WindowTime, trip: mean},
		"mean of a count window":   {window: breaker.WindowCount, trip: mean, want: Needs{Every: true}},
		"streak in a count window": {window: breaker.WindowCount, trip: streakOf(nil)},
		"streak of failures":       {trip: streakOf(set(500, breaker.ResultTimeout))},
		"streak of a success":      {trip: streakOf(set(500, 404)), want: Needs{Every: true}},
		"every, before others": {trip: within(breaker.TripAny, streakOf(set(404)), streakOf(set(500)), mean),
			want: Needs{Every: true}},
		"pending requests": {trip: within(breaker.TripAll, streakOf(nil), pending), want: Needs{Pending: true}},
	} {
		s := breaker.DefaultSettings()
		s.Window.Type, s.Outcome.Slow, s.Trip = c.window, c.slow, c.trip
		if got := NeedsOf(&s); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
