package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/view"
)

// overflowEvery is how often a circuit's overflows are told of.
const overflowEvery = 10 * time.Second

// tell keeps an event in the history, and has it logged and Config.Happened called soon.
func (a *Agent) tell(p *policyState, e *breaker.Event) {
	now, wall := loader.Now(), time.Now()
	c := p.circuits[e.Backend]
	if e.Kind == breaker.EventTransition && c != nil {
		c.overflow = 0
	}
	if e.Kind == breaker.EventOverflow && c != nil {
		// There is one for each outcome while it lasts: they are counted, but told of now and then.
		if c.overflow != 0 && now < c.overflow+int64(overflowEvery) {
			return
		}
		c.overflow = now
	}
	at := func(t breaker.Time) time.Time { return wall.Add(time.Duration(int64(t) - now)) }
	took := time.Duration(now - int64(e.At))
	window := view.NewWindow(e.Window)
	r := view.Record{
		Time: at(e.At), Kind: e.Kind.String(), Policy: p.Name, Direction: p.Direction.String(), Backend: e.Backend,
		From: e.From.String(), To: e.To.String(), Mode: e.Mode.String(), Cause: cause(e), Reason: e.Reason.String(),
		Window: &window, Step: e.Step, JitterSeconds: e.Jitter.Seconds(), By: e.Who, Why: e.Why, VerdictSeconds: took.Seconds(),
	}
	if e.HasNumbers {
		// Copies: the event lies in a buffer that is used again.
		value, threshold := e.Value, e.Threshold
		r.Value, r.Threshold = &value, &threshold
	}
	if e.Until != breaker.Never {
		until := at(e.Until)
		r.Until = &until
	}
	if c != nil {
		totals := a.dp.Totals(c.id)
		r.Connections, r.InFlight = totals.Connections, totals.InFlight
		c.countTransition(e)
		if e.Kind == breaker.EventTransition && e.From == breaker.StateClosed {
			c.rejectedAt = totals.RejectedTotal()
		}
	}
	if e.Kind == breaker.EventTransition && r.Cause == view.CauseOutcome {
		a.watched.Verdicts.Observe(took)
	}
	r = a.dir.History.Add(r)
	n := &notice{record: r, at: wall}
	if c != nil {
		c.last = &r
	}
	if a.cfg.Happened != nil {
		copied := *e // it lies in a buffer that is used again
		n.event = &copied
		if c != nil {
			n.backends = slices.Collect(maps.Values(c.backends))
		}
	}
	a.notices.Put(n)
}

// cause says what kind of thing is behind an event.
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

// record keeps a record and has it logged. now is when the kernel was told.
func (a *Agent) record(r view.Record, now time.Time) {
	a.notices.Put(&notice{record: a.dir.History.Add(r), at: now})
}
