package demo

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// sample is one request as its client saw it.
type sample struct {
	began   time.Time // when its client began to connect, or to send on an open connection
	at      time.Time // when it ended
	backend int       // index
	outcome string    // a status in digits, or how it ended without one
	kernel  bool      // answered by the kernel
	latency time.Duration
}

// recording holds the events of a run.
type recording struct {
	backends    []netip.AddrPort
	samples     []sample               // in the order in which they ended, nearly
	transitions []agentproc.Transition // in their order
	phase       Phase                  // the latest
	began       [phases]time.Time      // zero: not reached
	failures    []time.Time            // when the failing backend answered 500
}

// recorder makes a recording. Its methods may be called concurrently.
type recorder struct {
	mu  sync.Mutex
	rec recording
}

func newRecorder(backends []netip.AddrPort) *recorder {
	return &recorder{rec: recording{backends: backends}}
}

// done records a request; it fits loadgen.Load.
func (r *recorder) done(target netip.AddrPort, result loadgen.Result) {
	_, kernel := result.FromKernel()
	s := sample{
		began: result.Began, at: time.Now(), backend: slices.Index(r.rec.backends, target), outcome: result.Outcome(), kernel: kernel,
		latency: result.Latency,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.samples = append(r.rec.samples, s)
}

// failed records that the failing backend answers a request with 500.
func (r *recorder) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.failures = append(r.rec.failures, time.Now())
}

// begin records the beginning of a phase.
func (r *recorder) begin(p Phase, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.began[p], r.rec.phase = at, p
}

// recording returns a copy of the recording so far, with the transitions in the agent's log.
func (r *recorder) recording(transitions []agentproc.Transition) recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.rec
	c.samples = slices.Clone(c.samples)
	c.transitions = transitions
	c.failures = slices.Clone(c.failures)
	return c
}

// began returns when a phase began.
func (r *recorder) began(p Phase) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.began[p]
}
