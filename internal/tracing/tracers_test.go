package tracing

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/ledger"
)

// kernel notes whether plain successes are sent.
type kernel struct {
	closed bool
	sets   []bool
}

func (k *kernel) use(f func(func(bool))) {
	if k.closed {
		f(nil)
		return
	}
	f(func(on bool) { k.sets = append(k.sets, on) })
}

func open(t *testing.T, all *Tracers, target control.Target) *Tracer {
	t.Helper()
	tr, err := all.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// The kernel sends plain successes from the first reader on, until the last has gone.
func TestSetTrace(t *testing.T) {
	k := &kernel{}
	all := New(k.use)
	first, second := open(t, all, control.Target{}), open(t, all, control.Target{})
	if all.Count() != 2 {
		t.Errorf("%d readers, want 2", all.Count())
	}
	first.Close()
	first.Close()
	if !slices.Equal(k.sets, []bool{true, true}) {
		t.Errorf("set to %v while one reads", k.sets)
	}
	second.Close()
	if !slices.Equal(k.sets, []bool{true, true, false}) || all.Count() != 0 {
		t.Errorf("set to %v, %d readers, want false at the end", k.sets, all.Count())
	}
}

func TestTooManyTracers(t *testing.T) {
	all := New((&kernel{}).use)
	last := open(t, all, control.Target{})
	for range maxTracers - 1 {
		open(t, all, control.Target{})
	}
	if _, err := all.Open(control.Target{}); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v, want %v", err, ErrTooMany)
	}
	last.Close()
	open(t, all, control.Target{})
}

// The datapath that is closed is not used any more.
func TestStoppedAgent(t *testing.T) {
	k := &kernel{}
	all := New(k.use)
	tr := open(t, all, control.Target{})
	k.closed = true
	if _, err := all.Open(control.Target{}); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want %v", err, ErrStopped)
	}
	tr.Close()
	if !slices.Equal(k.sets, []bool{true}) || all.Count() != 0 {
		t.Errorf("set to %v, %d readers", k.sets, all.Count())
	}
}

// Each reader gets what its target names, with what each kind of event says.
func TestTrace(t *testing.T) {
	all := New((&kernel{}).use)
	every, one := open(t, all, control.Target{}), open(t, all, control.Target{Policy: "orders", Backend: "a"})
	client, backend := netip.MustParseAddrPort("192.0.2.99:40000"), netip.MustParseAddrPort("192.0.2.7:80")
	ev := ledger.Event{Client: client, Backend: backend, At: 3, Began: 1, Sent: 2, Generation: 4, Result: 503, Permit: true}
	kinds := map[ledger.EventKind]control.TraceKind{
		ledger.EventOutcome: control.TraceOutcome, ledger.EventProbe: control.TraceAttempt, ledger.EventReturn: control.TraceReturn,
	}
	for kind, want := range kinds {
		ev.Kind = kind
		all.Trace("orders", "a", &ev)
		l := <-one.Lines()
		if l.Kind != want || l.Policy != "orders" || l.Circuit != "a" || l.Backend != backend || l.Client != client.Addr() ||
			l.At != 3 || l.Began != 1 || l.Sent != 2 || l.Generation != 4 {
			t.Errorf("kind %d: got %+v", want, l)
		}
		if outcome := kind == ledger.EventOutcome; l.Permit != outcome || (l.Result == 503) != outcome {
			t.Errorf("kind %d: result %d, permit %v", want, l.Result, l.Permit)
		}
	}
	ev.Kind = ledger.EventLearn
	all.Trace("orders", "a", &ev)
	ev.Kind = ledger.EventOutcome
	all.Trace("orders", "b", &ev)
	if len(every.lines) != len(kinds)+1 || len(one.lines) != 0 {
		t.Errorf("%d and %d lines wait, want %d and none", len(every.lines), len(one.lines), len(kinds)+1)
	}
}

// A reader that does not keep up misses lines, which are counted, and delays nothing.
func TestSlowReader(t *testing.T) {
	all := New((&kernel{}).use)
	slow := open(t, all, control.Target{})
	ev := ledger.Event{Kind: ledger.EventOutcome}
	for range buffer + 3 {
		all.Trace("orders", "a", &ev)
	}
	if n := slow.Missed(); n != 3 || all.Dropped() != 3 {
		t.Errorf("%d missed, %d dropped, want 3", n, all.Dropped())
	}
	if n := slow.Missed(); n != 0 {
		t.Errorf("%d missed since, want none", n)
	}
}
