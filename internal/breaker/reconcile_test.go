package breaker

import (
	"testing"
	"time"
)

// halfOpened returns a circuit that has just become half-open, at that time.
func halfOpened(t *testing.T, calls, tolerate int) (*Circuit, Time) {
	t.Helper()
	s := DefaultSettings()
	s.Trip = Trip{Kind: TripFailureCount, N: 1}
	s.HalfOpen.Calls, s.HalfOpen.Concurrent, s.HalfOpen.Tolerate = calls, calls, tolerate
	s.HalfOpen.Timeout = 30 * time.Second
	g, err := NewGroup("g", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := g.Add("a", 0)
	c.Record(1, &Outcome{Result: 500}, nil)
	at := c.Status().Until
	g.Advance(at, nil)
	if c.State() != StateHalfOpen {
		t.Fatalf("the circuit is %s", c.State())
	}
	return c, at
}

func TestReconcile(t *testing.T) {
	for name, test := range map[string]struct {
		calls, tolerate int
		reported        []Time // admissions, after the period's begin
		used            int
		lost            Lost
		want            Probes
		state           State
	}{
		"nothing":           {3, 0, []Time{1}, 1, Lost{}, Probes{Used: 1, InFlight: 1}, StateHalfOpen},
		"lost probes":       {3, 0, []Time{1}, 3, Lost{}, Probes{Used: 3, InFlight: 3}, StateHalfOpen},
		"lost returns":      {3, 0, []Time{1, 2, 3}, 1, Lost{}, Probes{Used: 1, InFlight: 1}, StateHalfOpen},
		"lost success":      {3, 0, []Time{1, 2}, 2, Lost{Plain: 1}, Probes{Used: 2, InFlight: 1, Finished: 1}, StateHalfOpen},
		"lost failure":      {3, 0, []Time{1, 2}, 2, Lost{Failures: 1}, Probes{}, StateOpen},
		"tolerated failure": {3, 1, []Time{1, 2}, 2, Lost{Failures: 1}, Probes{Used: 2, InFlight: 1, Finished: 1, Bad: 1}, StateHalfOpen},
		"all lost":          {3, 0, nil, 3, Lost{Plain: 3}, Probes{}, StateClosed},
		"all lost, one bad": {3, 0, nil, 3, Lost{Plain: 2, Failures: 1}, Probes{}, StateOpen},
	} {
		t.Run(name, func(t *testing.T) {
			c, at := halfOpened(t, test.calls, test.tolerate)
			for _, began := range test.reported {
				c.Began(at+began, c.Generation(), nil)
			}
			c.Reconcile(at+10, c.Generation()-1, test.calls, Lost{Failures: 9}, nil) // of an earlier period
			c.Reconcile(at+10, c.Generation(), test.used, test.lost, nil)
			if s := c.Status(); s.State != test.state || s.Probes != test.want {
				t.Errorf("got %s with %+v, want %s with %+v", s.State, s.Probes, test.state, test.want)
			}
		})
	}
}

// Outcomes of unreported probes are assigned to them, whenever they began; without an outcome they time out.
func TestOutcomesOfUntoldProbes(t *testing.T) {
	c, at := halfOpened(t, 2, 0)
	c.Reconcile(at+10, c.Generation(), 2, Lost{}, nil)
	c.Record(at+20, &Outcome{Result: 200, Permit: true, Generation: c.Generation(), Began: at + 3}, nil)
	if got, want := c.Status().Probes, (Probes{Used: 2, InFlight: 1, Finished: 1}); got != want {
		t.Fatalf("after one outcome: %+v, want %+v", got, want)
	}
	c.Release(at+30, c.Generation(), at+4, nil)
	if got, want := c.Status().Probes, (Probes{Used: 1, Finished: 1}); got != want {
		t.Fatalf("after a permit came back: %+v, want %+v", got, want)
	}
	c.Reconcile(at+40, c.Generation(), 2, Lost{}, nil)
	events := c.Group().Advance(at+40+Time(30*time.Second), nil)
	if len(events) != 1 || events[0].Reason != ReasonProbeTimeout || c.State() != StateOpen {
		t.Errorf("got %+v, want a probe that timed out", events)
	}
}
