package agent

import (
	"errors"
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/ledger"
)

// maxTracers bounds what readers of traces can cost.
const maxTracers = 8

// traceBuffer is how many lines a reader of a trace may be behind.
const traceBuffer = 16384

// tracer hands outcomes to one reader.
type tracer struct {
	agent  *Agent
	target control.Target
	lines  chan control.TraceLine
	missed atomic.Uint64
}

// Trace has every outcome of the target handed out until the tracer is closed. While there is one, the kernel tells of plain
// successes too.
func (a *Agent) Trace(t control.Target) (control.Tracer, error) {
	a.viewing.RLock()
	defer a.viewing.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, errors.New("the agent is stopping")
	}
	if len(a.tracers) == maxTracers {
		return nil, errors.New("eight traces are being read already")
	}
	tr := &tracer{agent: a, target: t, lines: make(chan control.TraceLine, traceBuffer)}
	a.tracers[tr] = struct{}{}
	a.dp.SetTrace(true)
	return tr, nil
}

// Lines is where the trace comes out.
func (t *tracer) Lines() <-chan control.TraceLine { return t.lines }

// Missed returns how many lines did not fit since it was asked last.
func (t *tracer) Missed() uint64 { return t.missed.Swap(0) }

// Close ends the trace. A second call does nothing.
func (t *tracer) Close() {
	a := t.agent
	a.viewing.RLock()
	defer a.viewing.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tracers, t)
	if len(a.tracers) == 0 && !a.closed {
		a.dp.SetTrace(false)
	}
}

// trace hands an event to those who read. Callers hold mu.
func (a *Agent) trace(c *circuitState, ev *ledger.Event) {
	l := control.TraceLine{
		Policy: c.policy.Name, Circuit: c.name, Backend: ev.Backend, Client: ev.Client.Addr(), At: ev.At, Began: ev.Began, Sent: ev.Sent,
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
	for t := range a.tracers {
		if !t.target.Has(l.Policy, l.Circuit) {
			continue
		}
		select {
		case t.lines <- l:
		default:
			t.missed.Add(1)
			a.watched.ReaderDropped++
		}
	}
}
