// Package records publishes the events of circuits: it adds records to the history, and logs and notifies them without
// waiting for either.
package records

import (
	"log/slog"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/outbox"
	"github.com/cbagent/cbagent/internal/view"
)

// Records publishes events. The agent's lock protects it, except for Close.
type Records struct {
	history  *history.History
	clock    func() int64
	happened bool // events are to be notified
	notices  *outbox.Outbox[*notice]
	verdicts view.Histogram // from the decisive outcome to the verdict in the kernel
}

// Circuit describes a circuit in force for Event.
type Circuit struct {
	*Trail
	Counts   func() Counts
	Backends func() []discovery.Backend
}

// Counts are the programs' counts of a circuit.
type Counts struct {
	Connections, InFlight uint64 // now
	Rejected              uint64 // clients since the circuit's reset
}

// New returns Records that adds to h. clock is the kernel's monotonic time in ns. happened, if not nil, is called for each
// event of a circuit, with the backends behind it, from one goroutine. Records does not wait for it.
func New(h *history.History, log *slog.Logger, clock func() int64, happened func(breaker.Event, []discovery.Backend)) *Records {
	return &Records{history: h, clock: clock, happened: happened != nil, notices: newNotices(log, happened)}
}

// Close waits until records are logged and notified, but at most the given time.
func (r *Records) Close(within time.Duration) { r.notices.Close(within) }

// View fills in the fields of a snapshot.
func (r *Records) View(v *view.Agent) {
	v.Verdicts, v.Records = r.verdicts, r.history.Seq()
	v.Lost = map[string]uint64{view.SinkHistory: r.history.Lost(), view.SinkNotice: r.notices.Dropped()}
}

// Add adds a record that is not an event of a breaker to the history, and logs it. now is when the verdict was in force.
func (r *Records) Add(rec view.Record, now time.Time) {
	r.notices.Put(&notice{record: r.history.Add(rec), at: now})
}

// Event adds an event of a policy's circuit to the history, and logs and notifies it. c is nil when the circuit is gone.
// The verdict is in force already.
func (r *Records) Event(policy, direction string, e *breaker.Event, c *Circuit) {
	now, wall := r.clock(), time.Now()
	if c != nil && !c.due(e, now) {
		return
	}
	took := time.Duration(now - int64(e.At))
	rec := record(e, now, wall)
	rec.Policy, rec.Direction = policy, direction
	if c != nil {
		counts := c.Counts()
		rec.Connections, rec.InFlight = counts.Connections, counts.InFlight
		c.count(e, counts.Rejected)
	}
	if e.Kind == breaker.EventTransition && rec.Cause == view.CauseOutcome {
		r.verdicts.Observe(took)
	}
	rec = r.history.Add(rec)
	n := &notice{record: rec, at: wall}
	if c != nil {
		c.Last = &rec
	}
	if r.happened {
		copied := *e // its buffer is used again
		n.event = &copied
		if c != nil {
			n.backends = c.Backends()
		}
	}
	r.notices.Put(n)
}

// record converts an event. now and wall are the same moment.
func record(e *breaker.Event, now int64, wall time.Time) view.Record {
	at := func(t breaker.Time) time.Time { return wall.Add(time.Duration(int64(t) - now)) }
	window := view.NewWindow(e.Window)
	rec := view.Record{
		Time: at(e.At), Kind: e.Kind.String(), Backend: e.Backend, From: e.From.String(), To: e.To.String(), Mode: e.Mode.String(),
		Cause: cause(e), Source: e.Source.String(), Reason: e.Reason.String(), Window: &window, Step: e.Step,
		JitterSeconds: e.Jitter.Seconds(), By: e.Who, Why: e.Why, VerdictSeconds: time.Duration(now - int64(e.At)).Seconds(),
	}
	if e.HasNumbers {
		// Copies, because the event's buffer is used again.
		value, threshold := e.Value, e.Threshold
		rec.Value, rec.Threshold = &value, &threshold
	}
	if e.Until != breaker.Never {
		until := at(e.Until)
		rec.Until = &until
	}
	return rec
}

// cause returns the kind of an event's cause.
func cause(e *breaker.Event) string {
	switch {
	case e.Reason == breaker.ReasonManual:
		return view.CauseManual
	case e.Reason == breaker.ReasonReload:
		return view.CauseReload
	case e.Reason == breaker.ReasonEjectionLimit:
		return view.CauseLimits
	case e.Reason == breaker.ReasonDeadline || e.Reason == breaker.ReasonProbeTimeout || e.Reason == breaker.ReasonRampPassed:
		return view.CauseTime
	}
	return view.CauseOutcome
}
