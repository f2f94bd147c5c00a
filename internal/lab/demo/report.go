package demo

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// Report is the result of a run. Its JSON form is stable.
type Report struct {
	OK bool `json:"ok"`
	// From the first failing response to the verdict.
	OpenedAfterMs float64 `json:"opened_after_ms"`
	// Requests that the failing backend counted from its first 500 until it was healed, less permitted probes.
	LeakedRequests int `json:"leaked_requests"`
	// Answers of the kernel that clients counted.
	AnsweredByKernel int `json:"answered_by_kernel"`
	// Median time from a client's write to the whole answer of the kernel.
	AnswerP50Us float64 `json:"answer_p50_us"`
	// Requests to the other backends that were not answered 200.
	OtherBackendsFailed int `json:"other_backends_failed"`
	// From the healing to the closed circuit.
	ClosedAfterMs float64       `json:"closed_after_ms"`
	Phases        []PhaseReport `json:"phases"`
}

// PhaseReport counts the requests that ended in a phase, to all backends.
type PhaseReport struct {
	Name     string         `json:"name"`
	Requests int            `json:"requests"`
	ByStatus map[string]int `json:"by_status"` // by status, or by how a request without an answer ended
}

// report judges a recording. The error names all faults of the breaker; inFlight is how many requests to the failing
// backend may have been in flight when its circuit opened.
func (rec *recording) report(failing, inFlight int) (Report, error) {
	r := Report{
		LeakedRequests: len(rec.leaks(failing, time.Time{})),
		Phases:         make([]PhaseReport, 0, phases),
	}
	for p, began := range rec.began {
		if !began.IsZero() {
			r.Phases = append(r.Phases, PhaseReport{Name: Phase(p).String(), ByStatus: map[string]int{}})
		}
	}
	var answers []time.Duration
	for _, s := range rec.samples {
		if p := rec.phaseAt(s.at); int(p) < len(r.Phases) {
			r.Phases[p].Requests++
			r.Phases[p].ByStatus[s.outcome]++
		}
		if s.kernel {
			answers = append(answers, s.latency)
		}
		if s.backend != failing && s.outcome != "200" {
			r.OtherBackendsFailed++
		}
	}
	r.AnsweredByKernel = len(answers)
	r.AnswerP50Us = inUnits(loadgen.Percentile(answers, 50), time.Microsecond)
	if len(rec.failures) > 0 && !rec.began[Open].IsZero() {
		r.OpenedAfterMs = inUnits(rec.began[Open].Sub(rec.failures[0]), time.Millisecond)
	}
	if !rec.began[Closed].IsZero() {
		r.ClosedAfterMs = inUnits(rec.began[Closed].Sub(rec.began[Healing]), time.Millisecond)
	}
	err := rec.judge(r, failing, inFlight)
	r.OK = err == nil
	return r, err
}

// judge returns all faults of the breaker.
func (rec *recording) judge(r Report, failing, inFlight int) error {
	var wrong []error
	fault := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for p, began := range rec.began {
		if began.IsZero() {
			fault("the phase %q was never reached", Phase(p))
		}
	}
	states := []string{"closed"}
	for _, t := range rec.transitions {
		if t.Backend == rec.backends[failing].String() {
			states = append(states, t.To)
		} else {
			fault("the circuit of %s, which was well, went from %s to %s", t.Backend, t.From, t.To)
		}
	}
	if want := []string{"closed", "open", "half-open", "closed"}; !slices.Equal(states, want) {
		fault("the circuit of the failing backend was %v, want %v", states, want)
	}
	if r.OtherBackendsFailed > 0 {
		fault("%d requests to the other backends failed", r.OtherBackendsFailed)
	}
	if r.AnsweredByKernel == 0 {
		fault("the kernel answered no request")
	}
	if !rec.began[Open].IsZero() {
		if late := len(rec.leaks(failing, rec.began[Open])); late > inFlight {
			fault("%d requests reached the failing backend after its circuit had opened, at most %d were under way", late, inFlight)
		}
	}
	for outcome, n := range rec.unexpected(failing) {
		fault("%d requests to the failing backend ended with %s", n, outcome)
	}
	return errors.Join(wrong...)
}

// leaks returns when requests reached the failing backend while it failed, after a moment and while its circuit was
// not half-open.
func (rec *recording) leaks(failing int, after time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(rec.failures), func(at time.Time) bool {
		return at.Before(after) || stateAt(rec.transitions, rec.backends[failing], at) == "half-open"
	})
}

// unexpected counts the outcomes of the failing backend's clients that are neither its own answers, nor the kernel's
// to clients that began before its circuit closed. Nothing but the beginning of a client is sure: on a busy machine the
// kernel accepts its connection in one phase, it sends its request in the next, and it reads the answer in a third.
func (rec *recording) unexpected(failing int) map[string]int {
	counts := map[string]int{}
	for _, s := range rec.samples {
		if s.backend != failing {
			continue
		}
		p := rec.phaseAt(s.at)
		switch {
		case s.outcome == "200":
		case s.outcome == "500" && !s.kernel && p >= Failing && rec.phaseAt(s.began) <= Healing:
		case s.outcome == "503" && s.kernel && p >= Failing && rec.phaseAt(s.began) != Closed:
		default:
			counts[s.outcome+" in phase "+p.String()]++
		}
	}
	return counts
}

// phaseAt returns the phase of a moment.
func (rec *recording) phaseAt(at time.Time) Phase {
	now := Healthy
	for p, began := range rec.began {
		if !began.IsZero() && !at.Before(began) {
			now = Phase(p)
		}
	}
	return now
}

// inUnits converts with one decimal.
func inUnits(d, unit time.Duration) float64 {
	return math.Round(float64(d)/float64(unit)*10) / 10
}
