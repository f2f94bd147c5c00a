package breaker

import (
	"testing"
	"time"
)

// A transition clears the window; its event has the content.
func TestEventsCarryTheWindow(t *testing.T) {
	s := DefaultSettings()
	s.Trip = Trip{Kind: TripFailureCount, N: 3}
	s.Ejection.MinHealthy = 1
	g, err := NewGroup("orders", s, 1)
	if err != nil {
		t.Fatal(err)
	}
	one, two := g.Add("one", 0), g.Add("two", 0)
	fail := Outcome{Result: 503, HasLatency: true, Latency: 2 * time.Millisecond}
	ok := Outcome{Result: 200, HasLatency: true, Latency: 4 * time.Millisecond}
	var events []Event
	for _, o := range []*Outcome{&ok, &fail, &fail, &fail} {
		_, events = one.Record(1, o, events)
		_, events = two.Record(1, o, events)
	}
	if len(events) != 2 || events[0].Kind != EventTransition || events[1].Kind != EventOverflow {
		t.Fatalf("events: %+v", events)
	}
	for _, e := range events {
		w := e.Window
		if w.Total != 4 || w.Failures != 3 || w.TotalDuration() != 10*time.Millisecond {
			t.Errorf("%s: window of %d outcomes, %d failures, %s", e.Kind, w.Total, w.Failures, w.TotalDuration())
		}
	}
	if m := one.Metric(1); m.Total != 0 {
		t.Errorf("the open circuit's window has %d outcomes", m.Total)
	}
	if m := two.Metric(1); m.Total != 4 {
		t.Errorf("the window of the one that stayed closed has %d outcomes, want 4", m.Total)
	}
}
