package records

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/view"
)

const patience = 10 * time.Second

var failureRate = breaker.TripReason(breaker.TripFailureRate)

// book is Records with a clock of its own.
type book struct {
	*Records
	now     int64
	log     bytes.Buffer // of the goroutine that logs, until Close
	circuit Circuit
	counts  Counts
}

func newBook(t *testing.T, happened func(breaker.Event, []discovery.Backend)) *book {
	h, err := history.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := &book{now: int64(time.Hour)}
	b.Records = New(h, slog.New(slog.NewTextHandler(&b.log, nil)), func() int64 { return b.now }, happened)
	b.circuit = Circuit{
		Trail: &Trail{}, Counts: func() Counts { return b.counts },
		Backends: func() []discovery.Backend { return []discovery.Backend{{Source: "a"}} },
	}
	return b
}

func opening(at int64) *breaker.Event {
	return &breaker.Event{
		Kind: breaker.EventTransition, Backend: "a", At: breaker.Time(at), From: breaker.StateClosed, To: breaker.StateOpen,
		Reason: failureRate, HasNumbers: true, Value: 0.7, Threshold: 0.5, Until: breaker.Time(at).Add(30 * time.Second),
	}
}

// A record has the wall-clock times, the numbers and the counts of its moment, whatever becomes of the event.
func TestEvent(t *testing.T) {
	b := newBook(t, nil)
	b.counts = Counts{Connections: 7, InFlight: 3, Rejected: 100}
	e := opening(b.now - int64(2*time.Millisecond))
	before := time.Now()
	b.Event("orders", "outbound", e, &b.circuit)
	e.Value, e.Threshold, e.Backend = 0, 0, "another" // the buffer is used again
	after := time.Now()
	r := b.history.Last(1)[0]
	if r.Policy != "orders" || r.Direction != "outbound" || r.Backend != "a" || r.From != "closed" || r.To != "open" || r.Cause != view.CauseOutcome {
		t.Errorf("got %+v", r)
	}
	if *r.Value != 0.7 || *r.Threshold != 0.5 || r.Connections != 7 || r.InFlight != 3 || r.VerdictSeconds != 0.002 {
		t.Errorf("value %v, threshold %v, %d connections, %d in flight, verdict %v s", *r.Value, *r.Threshold, r.Connections, r.InFlight, r.VerdictSeconds)
	}
	if at := r.Time.Add(2 * time.Millisecond); at.Before(before) || at.After(after) {
		t.Errorf("it happened at %s, want 2 ms before %s to %s", r.Time, before, after)
	}
	if left := r.Until.Sub(r.Time); left != 30*time.Second {
		t.Errorf("until %s after it happened, want 30 s", left)
	}
	if b.circuit.Last == nil || b.circuit.Last.Seq != r.Seq || b.circuit.RejectedAt != 100 {
		t.Errorf("the trail is %+v", b.circuit.Trail)
	}
	var v view.Agent
	b.View(&v)
	if v.Verdicts.Sum != 2*time.Millisecond || v.Records != 1 {
		t.Errorf("verdicts took %s, %d records; want 2 ms, one", v.Verdicts.Sum, v.Records)
	}
	b.Close(patience)
	if !strings.Contains(b.log.String(), "msg=transition") || !strings.Contains(b.log.String(), "level=WARN") {
		t.Errorf("the log says %s", &b.log)
	}
}

// A circuit that is gone has events, too.
func TestEventOfNoCircuit(t *testing.T) {
	b := newBook(t, nil)
	e := opening(b.now)
	e.Until = breaker.Never
	b.Event("orders", "outbound", e, nil)
	if r := b.history.Last(1)[0]; r.Until != nil || r.Connections != 0 {
		t.Errorf("got %+v", r)
	}
	b.Close(patience)
}

// Transitions are counted by states and reason; when a circuit leaves closed it is noted how many were rejected.
func TestTrail(t *testing.T) {
	b := newBook(t, nil)
	event := func(from, to breaker.State, reason breaker.Reason, rejected uint64) {
		b.counts.Rejected = rejected
		b.Event("orders", "outbound", &breaker.Event{Kind: breaker.EventTransition, From: from, To: to, Reason: reason}, &b.circuit)
	}
	event(breaker.StateClosed, breaker.StateOpen, failureRate, 1)
	event(breaker.StateOpen, breaker.StateHalfOpen, breaker.ReasonDeadline, 20)
	event(breaker.StateHalfOpen, breaker.StateClosed, breaker.ReasonProbesPassed, 20)
	event(breaker.StateClosed, breaker.StateOpen, failureRate, 21)
	event(breaker.StateOpen, breaker.StateClosed, breaker.ReasonManual, 40)
	want := []view.Transition{
		{From: breaker.StateClosed, To: breaker.StateOpen, Reason: failureRate, Count: 2},
		{From: breaker.StateOpen, To: breaker.StateHalfOpen, Reason: breaker.ReasonDeadline, Count: 1},
		{From: breaker.StateHalfOpen, To: breaker.StateClosed, Reason: breaker.ReasonProbesPassed, Count: 1},
		{From: breaker.StateOpen, To: breaker.StateClosed, Reason: breaker.ReasonManual, Count: 1},
	}
	for i, k := range b.circuit.Transitions {
		if i >= len(want) || k != want[i] {
			t.Errorf("transition %d: %+v, want %+v", i, k, want)
		}
	}
	if b.circuit.RejectedAt != 21 {
		t.Errorf("rejected %d when it last left closed, want 21", b.circuit.RejectedAt)
	}
	b.Close(patience)
}

// Overflows are recorded every ten seconds, and at once after a transition.
func TestOverflow(t *testing.T) {
	b := newBook(t, nil)
	overflow := &breaker.Event{Kind: breaker.EventOverflow}
	for _, s := range []struct {
		after time.Duration
		event *breaker.Event
		seq   uint64
	}{
		{0, overflow, 1}, {overflowEvery - 1, overflow, 1}, {1, overflow, 2}, {1, overflow, 2}, {1, opening(0), 3}, {1, overflow, 4},
	} {
		b.now += int64(s.after)
		b.Event("orders", "outbound", s.event, &b.circuit)
		if got := b.history.Seq(); got != s.seq {
			t.Fatalf("%d records, want %d", got, s.seq)
		}
	}
	b.Close(patience)
}

func TestHappened(t *testing.T) {
	type call struct {
		backend string
		behind  int
	}
	calls := make(chan call, 4)
	b := newBook(t, func(e breaker.Event, all []discovery.Backend) { calls <- call{e.Backend, len(all)} })
	e := opening(b.now)
	b.Event("orders", "outbound", e, &b.circuit)
	e.Backend = "another"
	b.Event("orders", "outbound", e, nil)
	b.Add(view.Record{Kind: view.KindLease}, time.Now()) // no event of a circuit
	b.Close(patience)
	close(calls)
	var got []call
	for c := range calls {
		got = append(got, c)
	}
	if len(got) != 2 || got[0] != (call{"a", 1}) || got[1] != (call{"another", 0}) {
		t.Errorf("notified of %v", got)
	}
}

func TestCause(t *testing.T) {
	for reason, want := range map[breaker.Reason]string{
		breaker.ReasonManual: view.CauseManual, breaker.ReasonReload: view.CauseReload, breaker.ReasonEjectionLimit: view.CauseLimits,
		breaker.ReasonDeadline: view.CauseTime, breaker.ReasonProbeTimeout: view.CauseTime, breaker.ReasonRampPassed: view.CauseTime,
		failureRate: view.CauseOutcome,
	} {
		if got := cause(&breaker.Event{Reason: reason}); got != want {
			t.Errorf("%s: %s, want %s", reason, got, want)
		}
	}
}
