package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/outbox"
	"github.com/cbagent/cbagent/internal/view"
)

// waitingHappenings is how many records may wait to be logged and notified: several openings of each circuit of a large node.
const waitingHappenings = 8192

// happening is a record on its way out of the agent.
type happening struct {
	record   view.Record
	at       time.Time           // when the verdict was in the kernel
	event    *breaker.Event      // for Config.Happened; nil: it is not called
	backends []discovery.Backend // behind the event's circuit
}

// newHappenings starts the goroutine that logs records and calls Config.Happened, so that nothing of it waits under the
// agent's lock.
func newHappenings(cfg *Config) *outbox.Outbox[*happening] {
	deliver := func(h *happening) error {
		logRecord(cfg.Logger, h)
		if h.event != nil {
			cfg.Happened(*h.event, h.backends)
		}
		return nil
	}
	return outbox.New(waitingHappenings, deliver, func(dropped uint64) {
		cfg.Logger.Warn("records were neither logged nor notified: there were too many at once", "records", dropped)
	})
}

func logRecord(log *slog.Logger, h *happening) {
	r := &h.record
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
	if r.By != "" {
		attrs = append(attrs, "by", r.By, "why", r.Why)
	}
	attrs = append(attrs, "seq", r.Seq, "at_unix_ns", h.at.UnixNano(), "verdict_seconds", r.VerdictSeconds)
	level := slog.LevelInfo
	if opens := breaker.StateOpen.String(); r.To == opens || r.To == breaker.StateForcedOpen.String() || r.Kind == view.KindLease {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, r.Kind, attrs...)
}
