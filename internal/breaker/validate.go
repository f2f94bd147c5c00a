package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Limits of settings. Bounds uses those of numbers.
const (
	MinWindowSize  = time.Second
	MaxWindowSize  = time.Hour
	MaxWindowCount = 100_000        // outcomes of a count window, and buckets of a time window
	MaxDuration    = 24 * time.Hour // of an opening, a probe, a ramp, a latency
	MaxProbes      = 100_000        // halfOpen.calls
	MaxMinClients  = 1_000
	MaxBackends    = 1_000_000 // ejection.minHealthy, minBackends
	MaxTrippers    = 256       // nodes of a trip, compositions included
	MaxTripDepth   = 32
	MaxSlowKinds   = maxSlow       // different slow thresholds of one policy, outcome.slow included
	MaxStreakKinds = maxStreaks    // different lists of classes of consecutiveFailures
	MaxCallCount   = 1_000_000_000 // minCalls, failureCount, consecutiveFailures
)

// Problem is one invalid setting.
type Problem struct {
	Key  string // path below the policy, as in the file: "window.size", "trip.any[1].all[0].minCalls"
	Want string // what is accepted: "must be between 1s and 1h"
	Got  string // the value
}

// Error returns "KEY: WANT, got GOT".
func (p Problem) Error() string { return p.Key + ": " + p.Want + ", got " + p.Got }

// Validate returns all Problems of s in one error (errors.Join), or nil.
func (s *Settings) Validate() error {
	var errs []error
	for _, p := range s.Problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// Problems returns all invalid settings, in the order of the policy file.
func (s *Settings) Problems() []Problem {
	v := &validator{settings: s}
	v.check(s.Mode <= ModeForcedOpen, "mode", "must be enforce, monitor, disabled or forced-open", s.Mode)
	v.check(s.Scope <= ScopePolicy, "scope", "must be backend or policy", s.Scope)
	v.duration("outcome.slow", BoundsOf("outcome.slow"), s.Outcome.Slow)
	v.window()
	v.trip()
	v.open()
	v.halfOpen()
	v.ejection()
	return v.problems
}

type validator struct {
	settings *Settings
	problems []Problem
	trippers int
	slow     map[time.Duration]bool
	streaks  map[ResultSet]bool
}

func (v *validator) check(ok bool, key, want string, got any) {
	if !ok {
		v.problems = append(v.problems, Problem{Key: key, Want: want, Got: fmt.Sprint(got)})
	}
}

// number checks a number against the Bounds of its setting; key is its path.
func (v *validator) number(key string, b Bounds, got float64) {
	v.check(b.Has(got), key, b.want(), got)
}

func (v *validator) count(key string, b Bounds, got int) {
	v.check(b.Has(float64(got)), key, b.want(), got)
}

func (v *validator) duration(key string, b Bounds, got time.Duration) {
	v.check(b.Has(float64(got)), key, b.want(), short(got))
}

func (v *validator) window() {
	w := &v.settings.Window
	switch w.Type {
	case WindowCount:
		v.count("window.size", Bounds{Low: 1, High: MaxWindowCount}, w.Count)
	case WindowTime:
		v.duration("window.size", upTo(MinWindowSize, MaxWindowSize), w.Size)
		switch {
		case w.Size <= 0:
		case w.Bucket <= 0 || w.Bucket > w.Size || w.Size%w.Bucket != 0:
			v.check(false, "window.bucket", "must divide window.size ("+short(w.Size)+")", short(w.Bucket))
		case !BoundsOf("window.bucket").Has(float64(w.Bucket)):
			v.duration("window.bucket", BoundsOf("window.bucket"), w.Bucket)
		default:
			v.check(int64(w.Size/w.Bucket) <= MaxWindowCount, "window.bucket",
				fmt.Sprintf("must be at least window.size / %d", MaxWindowCount), short(w.Bucket))
		}
	default:
		v.check(false, "window.type", "must be time or count", w.Type)
	}
}

func (v *validator) open() {
	o := &v.settings.Open
	v.duration("open.duration", BoundsOf("open.duration"), o.Duration)
	v.check(o.Backoff <= BackoffExponential, "open.backoff", "must be none, linear or exponential", o.Backoff)
	if o.Backoff == BackoffExponential {
		v.number("open.multiplier", BoundsOf("open.multiplier"), o.Multiplier)
	}
	v.duration("open.max", BoundsOf("open.max"), o.Max)
	v.number("open.jitter", BoundsOf("open.jitter"), o.Jitter)
}

func (v *validator) halfOpen() {
	h := &v.settings.HalfOpen
	if r := h.Ramp; r != nil {
		v.number("halfOpen.ramp.from", BoundsOf("halfOpen.ramp.from"), r.From)
		v.number("halfOpen.ramp.to", BoundsOf("halfOpen.ramp.to"), r.To)
		v.check(!(r.To < r.From), "halfOpen.ramp.to", fmt.Sprintf("must be at least halfOpen.ramp.from (%v)", r.From), r.To)
		v.duration("halfOpen.ramp.over", BoundsOf("halfOpen.ramp.over"), r.Over)
		return
	}
	v.count("halfOpen.calls", BoundsOf("halfOpen.calls"), h.Calls)
	if h.Calls <= 0 {
		return // nothing else applies
	}
	v.check(h.Concurrent >= 1 && h.Concurrent <= h.Calls, "halfOpen.concurrent",
		fmt.Sprintf("must be between 1 and halfOpen.calls (%d)", h.Calls), h.Concurrent)
	v.check(h.Tolerate >= 0 && h.Tolerate < h.Calls, "halfOpen.tolerate",
		fmt.Sprintf("must be at least 0 and below halfOpen.calls (%d)", h.Calls), h.Tolerate)
	v.duration("halfOpen.timeout", BoundsOf("halfOpen.timeout"), h.Timeout)
}

func (v *validator) ejection() {
	e := &v.settings.Ejection
	v.number("ejection.maxPercent", BoundsOf("ejection.maxPercent"), e.MaxPercent)
	v.count("ejection.minHealthy", BoundsOf("ejection.minHealthy"), e.MinHealthy)
}

// short prints a duration without zero minutes and seconds: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if d%time.Minute == 0 && d != 0 {
		s = s[:len(s)-len("0s")]
		if d%time.Hour == 0 {
			s = s[:len(s)-len("0m")]
		}
	}
	return s
}
