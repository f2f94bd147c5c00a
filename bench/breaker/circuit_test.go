package breaker

import (
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// ours is a cbagent circuit behind the way in which the others are called: ask, then report.
type ours struct {
	circuit *breaker.Circuit
}

// result is how a request ended.
type result uint8

const (
	good result = iota
	bad
	excluded // neither: the client gave up
)

// fataler is what *testing.T, *testing.B and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// newOurs makes a circuit of the default settings with what the others do not have switched off.
func newOurs(t fataler, change func(*breaker.Settings)) *ours {
	t.Helper()
	s := breaker.DefaultSettings()
	s.Open.Backoff = breaker.BackoffNone
	change(&s)
	g, err := breaker.NewGroup("bench", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &ours{circuit: g.Add("192.0.2.1:80", 0)}
}

// ask returns how to report the end of a request, or nil if it may not be sent.
func (o *ours) ask(now breaker.Time) func(now breaker.Time, r result) {
	a, _ := o.circuit.Allow(now, nil)
	if !a.Admitted {
		return nil
	}
	return func(end breaker.Time, r result) {
		out := breaker.Outcome{Result: 200, Generation: a.Generation, Permit: a.Permit, Began: now}
		switch r {
		case bad:
			out.Result = 503
		case excluded:
			out.Result = breaker.ResultAborted
		}
		o.circuit.Record(end, &out, nil)
	}
}

func count(n int) breaker.Window { return breaker.Window{Type: breaker.WindowCount, Count: n} }

func seconds(n int) breaker.Window {
	return breaker.Window{Type: breaker.WindowTime, Size: time.Duration(n) * time.Second, Bucket: time.Second}
}

func all(children ...breaker.Trip) breaker.Trip {
	return breaker.Trip{Kind: breaker.TripAll, Children: children}
}

func probes(n int) breaker.HalfOpen {
	return breaker.HalfOpen{Calls: n, Concurrent: n, Timeout: breaker.MaxDuration}
}
