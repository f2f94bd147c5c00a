package demo

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
)

// Snapshot is the state of the demo at a moment, for a view.
type Snapshot struct {
	Elapsed  time.Duration
	Progress float64 // 0..1 of the expected time
	Phase    Phase
	Backends []BackendRates
	Kernel   int // answers of the kernel so far
}

// BackendRates are the requests to a backend during the last second.
type BackendRates struct {
	Name   string
	State  string // of its circuit
	OK     int    // answered 200
	Failed int    // answered otherwise by the backend, or not at all
	Kernel int    // answered by the kernel
}

// snapshot counts the second before now.
func (r *recorder) snapshot(now time.Time, s Script, transitions []agentproc.Transition) Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &r.rec
	snap := Snapshot{Phase: rec.phase}
	if began := rec.began[Healthy]; !began.IsZero() {
		snap.Elapsed = now.Sub(began)
		snap.Progress = min(1, float64(snap.Elapsed)/float64(s.expected()))
	}
	for i, b := range rec.backends {
		snap.Backends = append(snap.Backends, BackendRates{Name: backendName(i), State: stateAt(transitions, b, now)})
	}
	for _, sample := range rec.samples {
		if sample.kernel {
			snap.Kernel++
		}
	}
	for i := len(rec.samples) - 1; i >= 0 && now.Sub(rec.samples[i].at) <= time.Second; i-- {
		b := &snap.Backends[rec.samples[i].backend]
		switch {
		case rec.samples[i].kernel:
			b.Kernel++
		case rec.samples[i].outcome == "200":
			b.OK++
		default:
			b.Failed++
		}
	}
	return snap
}

// backendName returns the name of a backend counted from 0.
func backendName(i int) string { return fmt.Sprintf("b%d", i+1) }

// stateAt returns the state of a backend's circuit at a moment.
func stateAt(transitions []agentproc.Transition, backend netip.AddrPort, at time.Time) string {
	state := "closed"
	for _, t := range transitions {
		if t.Backend == backend.String() && !t.At.After(at) {
			state = t.To
		}
	}
	return state
}
