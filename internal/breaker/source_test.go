package breaker

import (
	"testing"
	"time"
)

// The source with the highest precedence decides, whatever the order of the overrides; the others wait.
func TestOverridesBySource(t *testing.T) {
	const high, low = SourceOperator, SourceMode
	var l overrides
	l.put(Override{Source: low, Mode: ModeDisabled, Until: 20})
	l.put(Override{Source: high, Mode: ModeForcedOpen, Until: 10})
	l.put(Override{Source: low, Mode: ModeMonitor, Until: 30})
	if len(l) != 2 || l[0].Source != high || l[1].Mode != ModeMonitor {
		t.Fatalf("%+v, want one of each source, the operator's first", l)
	}
	if l.ended(9) != nil || l.ended(10) != &l[0] || l.end() != 10 {
		t.Errorf("%v has ended at 10, the first ends at %d; want the operator's", l.ended(10), l.end())
	}
	if !l.take(high) || l.take(high) || len(l) != 1 || l.end() != 30 || l.ended(30) != &l[0] {
		t.Errorf("%+v, want the other alone", l)
	}
	if !l.take(low) || l.end() != Never {
		t.Errorf("%+v, want none", l)
	}
}

// Each event says who caused it.
func TestEventsNameTheirSource(t *testing.T) {
	s := DefaultSettings()
	s.Trip = Trip{Kind: TripConsecutiveFailures, N: 1}
	g, err := NewGroup("g", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := g.Add("a", 0)
	source := func(what string, want Source, events []Event) {
		t.Helper()
		if len(events) != 1 || events[0].Source != want {
			t.Errorf("%s: %+v, want one event by %s", what, events, want)
		}
	}
	_, events := c.Record(1, &Outcome{Result: 500}, nil)
	source("a trip", SourceOutcomes, events)
	source("a deadline", SourceOutcomes, g.Advance(Time(time.Minute), nil))
	source("closing by hand", SourceOperator, c.Close(Time(time.Minute), "root", "", nil))
	until := Time(2 * time.Minute)
	source("an override", SourceOperator, c.Impose(Time(time.Minute), Override{Mode: ModeForcedOpen, Until: until}, nil))
	source("its end", SourceOperator, g.Advance(until, nil))
	s.Mode = ModeDisabled
	events, err = g.Update(s, until, nil)
	if err != nil {
		t.Fatal(err)
	}
	source("a policy's mode", SourceMode, events)
	c.Impose(until, Override{Mode: ModeForcedOpen, Until: Never}, nil)
	if got := c.Mode(); got != ModeForcedOpen {
		t.Errorf("the mode is %s, want the operator's", got)
	}
	source("the operator's mode taken back", SourceOperator, c.Auto(until, "root", "", nil))
	if got := c.decides(); got.Source != SourceMode || got.Mode != ModeDisabled {
		t.Errorf("%+v decides, want the policy's mode", got)
	}
}
