package records

import (
	"context"
	"log/slog"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/outbox"
	"github.com/cbagent/cbagent/internal/view"
)

// maxNotices is how many records may wait to be logged and notified: enough for several openings of each circuit of a large
// node.
const maxNotices = 8192

// notice is a record that is to be logged and notified.
type notice struct {
	record   view.Record
	at       time.Time           // when the verdict was in the kernel
	event    *breaker.Event      // to be passed to happened; nil: none
	backends []discovery.Backend // behind the event's circuit
}

// newNotices starts the goroutine that logs records and calls happened, so that the event loop waits for neither.
func newNotices(log *slog.Logger, happened func(breaker.Event, []discovery.Backend)) *outbox.Outbox[*notice] {
	deliver := func(n *notice) error {
		logRecord(log, n)
		if n.event != nil {
			happened(*n.event, n.backends)
		}
		return nil
	}
	return outbox.New(maxNotices, deliver, func(dropped uint64) {
		log.Warn("records were neither logged nor notified: there were too many at once", "records", dropped)
	})
}

func logRecord(log *slog.Logger, n *notice) {
	r := &n.record
	attrs := []any{"policy", r.Policy, "backend", r.Backend, "from", r.From, "to", r.To, "reason", r.Reason}
	if r.Value != nil {
		attrs = append(attrs, "value", *r.Value)
	}
	if r.Threshold != nil {
		attrs = append(attrs, "threshold", *r.Threshold)
	}
	if w := r.Window; w != nil {
		attrs = append(attrs, "outcomes", w.Outcomes, "failures", w.Failures, "slow", w.Slow)
	}
	attrs = append(attrs, "step", r.Step)
	if r.JitterSeconds != 0 {
		attrs = append(attrs, "jitter_seconds", r.JitterSeconds)
	}
	if r.Until != nil {
		attrs = append(attrs, "until", *r.Until)
	}
	attrs = append(attrs, "connections", r.Connections, "in_flight", r.InFlight, "cause", r.Cause)
	if r.Source != "" {
		attrs = append(attrs, "source", r.Source)
	}
	if r.By != "" {
		attrs = append(attrs, "by", r.By, "why", r.Why)
	}
	attrs = append(attrs, "seq", r.Seq, "at_unix_ns", n.at.UnixNano(), "verdict_seconds", r.VerdictSeconds)
	level := slog.LevelInfo
	if opens := breaker.StateOpen.String(); r.To == opens || r.To == breaker.StateForcedOpen.String() || r.Kind == view.KindLease {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, r.Kind, attrs...)
}
