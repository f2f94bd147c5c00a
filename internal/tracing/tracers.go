// Package tracing delivers each outcome to the readers of traces.
package tracing

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/ledger"
)

// maxTracers limits the memory of readers of traces.
const maxTracers = 8

// buffer is how many lines may wait for a reader of a trace.
const buffer = 16384

// Errors of Open.
var (
	ErrTooMany = errors.New("eight traces are being read already")
	ErrStopped = errors.New("the agent is stopping")
)

// Tracers are the readers of traces. Its methods may be called from any goroutine.
type Tracers struct {
	kernel func(f func(setTrace func(on bool)))

	mu      sync.Mutex // protects all; taken after the locks of the kernel function
	all     map[*Tracer]struct{}
	count   atomic.Int64
	dropped atomic.Uint64
}

// New returns Tracers without readers. kernel calls its argument once, with the function by which plain successes are sent
// as events too, which is nil after the datapath was closed. The datapath is not closed meanwhile.
func New(kernel func(f func(setTrace func(on bool)))) *Tracers {
	return &Tracers{kernel: kernel, all: map[*Tracer]struct{}{}}
}

// Tracer delivers outcomes to one reader.
type Tracer struct {
	tracers *Tracers
	target  control.Target
	lines   chan control.TraceLine
	missed  atomic.Uint64
}

// Open returns a Tracer that receives each outcome of the target until it is closed. The error is ErrTooMany or ErrStopped.
func (t *Tracers) Open(target control.Target) (tr *Tracer, err error) {
	t.kernel(func(setTrace func(on bool)) {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case setTrace == nil:
			err = ErrStopped
		case len(t.all) == maxTracers:
			err = ErrTooMany
		default:
			tr = &Tracer{tracers: t, target: target, lines: make(chan control.TraceLine, buffer)}
			t.all[tr] = struct{}{}
			t.count.Store(int64(len(t.all)))
			setTrace(true)
		}
	})
	return tr, err
}

// Lines returns the channel of the trace.
func (t *Tracer) Lines() <-chan control.TraceLine { return t.lines }

// Missed returns how many lines did not fit since the last call.
func (t *Tracer) Missed() uint64 { return t.missed.Swap(0) }

// Close ends the trace. A second call does nothing.
func (t *Tracer) Close() {
	all := t.tracers
	all.kernel(func(setTrace func(on bool)) {
		all.mu.Lock()
		defer all.mu.Unlock()
		delete(all.all, t)
		all.count.Store(int64(len(all.all)))
		if len(all.all) == 0 && setTrace != nil {
			setTrace(false)
		}
	})
}

// Count returns how many readers there are.
func (t *Tracers) Count() int { return int(t.count.Load()) }

// Dropped returns how many lines did not fit into readers' buffers.
func (t *Tracers) Dropped() uint64 { return t.dropped.Load() }

// Trace sends an event of a circuit to its readers. It does not wait for them.
func (t *Tracers) Trace(policy, circuit string, ev *ledger.Event) {
	l := control.TraceLine{
		Policy: policy, Circuit: circuit, Backend: ev.Backend, Client: ev.Client.Addr(), At: ev.At, Began: ev.Began, Sent: ev.Sent,
		Generation: ev.Generation,
	}
	switch ev.Kind {
	case ledger.EventOutcome:
		l.Kind, l.Result, l.Permit = control.TraceOutcome, breaker.Result(ev.Result), ev.Permit
	case ledger.EventProbe:
		l.Kind = control.TraceAttempt
	case ledger.EventReturn:
		l.Kind = control.TraceReturn
	default:
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for tr := range t.all {
		if !tr.target.Has(policy, circuit) {
			continue
		}
		select {
		case tr.lines <- l:
		default:
			tr.missed.Add(1)
			t.dropped.Add(1)
		}
	}
}
