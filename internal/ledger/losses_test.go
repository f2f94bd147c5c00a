package ledger

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

func circuitWith(t *testing.T, trip breaker.Trip) *breaker.Circuit {
	t.Helper()
	s := breaker.DefaultSettings()
	s.Window = breaker.Window{Type: breaker.WindowTime, Size: time.Minute, Bucket: time.Second}
	s.Trip = trip
	g, err := breaker.NewGroup("g", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return g.Add("a", 0)
}

// Outcomes that are known by number only are in the window, and make no streak and no rate that never was.
func TestSpread(t *testing.T) {
	for name, c := range map[string]struct {
		trip                  breaker.Trip
		failures, slow, plain uint64
		opens                 bool
	}{
		"a tenth fails, streak":    {breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 5}, 1000, 0, 9000, false},
		"a tenth fails, rate":      {breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.15}, 1000, 0, 9000, false},
		"a tenth fails, low rate":  {breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.1}, 1000, 0, 9000, true},
		"all fail":                 {breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 5}, 1000, 0, 0, true},
		"all but one fail":         {breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: 5}, 1000, 0, 1, true},
		"count":                    {breaker.Trip{Kind: breaker.TripFailureCount, N: 1001}, 1000, 7, 3, false},
		"none is known to be bad":  {breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.01}, 0, 0, 1000, false},
		"more than are told apart": {breaker.Trip{Kind: breaker.TripFailureCount, N: 1_000_000_000}, 3 * spreadMost, 5, 4 * spreadMost, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := circuitWith(t, c.trip)
			spread(s, 1, 0, c.failures, c.slow, c.plain, nil)
			if got := s.State() == breaker.StateOpen; got != c.opens {
				t.Fatalf("it is %s", s.State())
			}
			m := s.Metric(1)
			if want := c.failures + c.slow + c.plain; !c.opens && (m.Total != want || m.Failures != c.failures) {
				t.Errorf("the window holds %d, of which %d failed; want %d and %d", m.Total, m.Failures, want, c.failures)
			}
		})
	}
}

// Events that come after a check began lower what is missing, but only those that the check is about.
func TestLossCheck(t *testing.T) {
	c := lossCheck{Progress: Progress{Events: 10}, unseen: 3, failures: 2, slow: 1}
	c.saw(&Event{Index: 10, Failure: true})
	c.saw(&Event{Index: 9, Failure: true})
	c.saw(&Event{Index: 4, Slow: true})
	if c.unseen != 1 || c.failures != 1 || c.slow != 0 {
		t.Errorf("%d unseen, %d failures, %d slow; want one failure", c.unseen, c.failures, c.slow)
	}
	c.saw(&Event{Index: 3, Failure: true})
	c.saw(&Event{Index: 2, Failure: true})
	if c.unseen != 0 || c.failures != 0 {
		t.Errorf("%d unseen, %d failures; want none", c.unseen, c.failures)
	}
	var none *lossCheck
	none.saw(&Event{})
}

// An event that comes after it was recovered is not counted again.
func TestEventAfterItsRecovery(t *testing.T) {
	b := newBench(t, streak(9), 1)
	r, _ := b.admit(0, 0)
	late, _ := b.k.judge(&r, 500)
	b.serve(0, 500, 500) // of which the second is lost
	if repairs := b.quiet(5); len(repairs) != 1 || repairs[0].Lost != 2 || repairs[0].Unexplained != 1 {
		t.Errorf("recovered %+v, want two events, one of which no full ring explains", repairs)
	}
	b.book.Apply(late)
	if got := b.accounts[0].Metric(breaker.Time(b.k.now)); got.Total != 3 || got.Failures != 3 {
		t.Errorf("the window holds %d outcomes, %d failures; want three failures", got.Total, got.Failures)
	}
}

// What was lost of a ramp is given to the circuit when it has entered the ramp, too.
func TestRecoveryWaitsForTheRamp(t *testing.T) {
	s := streak(3)
	s.HalfOpen = breaker.HalfOpen{Ramp: &breaker.Ramp{From: 1, To: 1, Over: time.Minute}}
	b := newBench(t, s, 2)
	b.serve(0, 500, 500)
	b.readAll()
	b.serve(0, 500)
	b.readAll()
	b.k.now += 50 * ms
	early := &Event{Kind: EventReturn, Circuit: 1, At: b.k.now} // before the opening ends
	b.k.ring = append(b.k.ring, early, early)
	b.k.now += 100 * ms
	b.serve(0, 500) // lost
	for range 2 {
		b.k.now += 100 * ms
		b.book.Advance(b.k.now)
	}
	b.book.Apply(b.k.next())
	b.book.Apply(b.k.next())
	b.k.ring = append(b.k.ring, early)
	for range 2 {
		b.k.now += 100 * ms
		if r := b.book.Advance(b.k.now); len(r) > 0 {
			t.Errorf("recovered %+v before time has come to the ramp", r)
		}
	}
	b.book.Apply(b.k.next())
	b.k.now += 100 * ms
	r := b.book.Advance(b.k.now)
	b.k.now += 100 * ms
	r = append(r, b.book.Advance(b.k.now)...)
	if len(r) != 1 || r[0].Failures != 1 || r[0].Unexplained != 0 {
		t.Errorf("recovered %+v, want one failure", r)
	}
	if got := b.accounts[0].Metric(breaker.Time(b.k.now)); got.Failures != 1 || b.accounts[0].State() != breaker.StateHalfOpen {
		t.Errorf("%d failures in %s, want one in half-open", got.Failures, b.accounts[0].State())
	}
}
