package agent

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/loader"
)

// Record is one thing that happened to a circuit.
type Record struct {
	Seq       uint64        // 1 for the first since the agent's start
	Time      time.Time     // when it was due
	Policy    string        `json:"policy"`
	Backend   string        `json:"backend"`
	Kind      string        // transition, overflow or override
	From, To  string        // states
	Reason    string        //
	Value     float64       // what was compared; NaN when nothing was
	Threshold float64       //
	Step      int           //
	Jitter    time.Duration //
	Until     time.Time     // zero: nothing ends it
	Who, Why  string        //
	Took      time.Duration // from the event's time to the verdict in the kernel
}

// historySize is how many records are kept.
const historySize = 1000

// History is the last records, oldest first.
type History struct {
	seq  uint64
	ring []Record
}

func (h *History) add(r Record) Record {
	h.seq++
	r.Seq = h.seq
	if len(h.ring) == historySize {
		copy(h.ring, h.ring[1:])
		h.ring = h.ring[:historySize-1]
	}
	h.ring = append(h.ring, r)
	return r
}

// tell records an event and logs it.
func (a *Agent) tell(p *policyState, e *breaker.Event) {
	now, wall := loader.Now(), time.Now()
	at := func(t breaker.Time) time.Time { return wall.Add(time.Duration(int64(t) - now)) }
	r := Record{
		Time: at(e.At), Policy: p.Name, Backend: e.Backend, Kind: e.Kind.String(), From: e.From.String(), To: e.To.String(),
		Reason: e.Reason.String(), Value: math.NaN(), Threshold: math.NaN(), Step: e.Step, Jitter: e.Jitter, Who: e.Who, Why: e.Why,
		Took: time.Duration(now - int64(e.At)),
	}
	if e.HasNumbers {
		r.Value, r.Threshold = e.Value, e.Threshold
	}
	if e.Until != breaker.Never {
		r.Until = at(e.Until)
	}
	r = a.history.add(r)

	attrs := []any{"policy", r.Policy, "backend", r.Backend, "from", r.From, "to", r.To, "reason", r.Reason}
	if e.HasNumbers {
		attrs = append(attrs, "value", r.Value, "threshold", r.Threshold)
	}
	attrs = append(attrs, "step", r.Step)
	if !r.Until.IsZero() {
		attrs = append(attrs, "until", r.Until)
	}
	if r.Who != "" {
		attrs = append(attrs, "who", r.Who, "why", r.Why)
	}
	attrs = append(attrs, "at_unix_ns", wall.UnixNano())
	level := slog.LevelInfo
	if e.To == breaker.StateOpen || e.To == breaker.StateForcedOpen || e.Kind == breaker.EventOverflow {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, r.Kind, attrs...)
}
