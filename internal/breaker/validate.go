package breaker

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Ranges of settings. Durations that no other constant bounds are at most MaxDuration.
const (
	MinWindowSize  = time.Second
	MaxWindowSize  = time.Hour
	MaxWindowCount = 100_000        // outcomes of a count window, and buckets of a time window
	MaxDuration    = 24 * time.Hour // of an opening, a probe, a ramp, a latency
	MaxProbes      = 100_000        // halfOpen.calls
	MaxMinClients  = 1_000
	MaxTrippers    = 256 // nodes of a trip, compositions included
	MaxTripDepth   = 32
	MaxSlowKinds   = maxSlow       // different slow thresholds of one policy, outcome.slow included
	MaxStreakKinds = maxStreaks    // different lists of classes of consecutiveFailures
	MaxCallCount   = 1_000_000_000 // minCalls, failureCount, consecutiveFailures
)

// Problem is one impossible setting.
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

// Problems returns every impossible setting, in the order of the policy file.
func (s *Settings) Problems() []Problem {
	v := &validator{settings: s}
	v.check(s.Mode <= ModeForcedOpen, "mode", "must be enforce, monitor, disabled or forced-open", s.Mode)
	v.check(s.Scope <= ScopePolicy, "scope", "must be backend or policy", s.Scope)
	v.duration("outcome.slow", s.Outcome.Slow, 0)
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

// number checks low <= got <= high; NaN is never in between.
func (v *validator) number(key string, got, low, high float64) {
	v.check(got >= low && got <= high, key, fmt.Sprintf("must be between %v and %v", low, high), got)
}

func (v *validator) count(key string, got, low, high int) {
	v.check(got >= low && got <= high, key, fmt.Sprintf("must be between %d and %d", low, high), got)
}

func (v *validator) duration(key string, got, low time.Duration) {
	v.check(got >= low && got <= MaxDuration, key, fmt.Sprintf("must be between %v and %v", short(low), short(MaxDuration)), short(got))
}

func (v *validator) window() {
	w := &v.settings.Window
	switch w.Type {
	case WindowCount:
		v.count("window.size", w.Count, 1, MaxWindowCount)
	case WindowTime:
		v.check(w.Size >= MinWindowSize && w.Size <= MaxWindowSize, "window.size",
			fmt.Sprintf("must be between %v and %v", short(MinWindowSize), short(MaxWindowSize)), short(w.Size))
		switch {
		case w.Size <= 0:
		case w.Bucket <= 0 || w.Bucket > w.Size || w.Size%w.Bucket != 0:
			v.check(false, "window.bucket", "must divide window.size ("+short(w.Size)+")", short(w.Bucket))
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
	v.duration("open.duration", o.Duration, time.Millisecond)
	v.check(o.Backoff <= BackoffExponential, "open.backoff", "must be none, linear or exponential", o.Backoff)
	if o.Backoff == BackoffExponential {
		v.number("open.multiplier", o.Multiplier, 1, 1000)
	}
	v.duration("open.max", o.Max, time.Millisecond)
	v.number("open.jitter", o.Jitter, 0, 1)
}

func (v *validator) halfOpen() {
	h := &v.settings.HalfOpen
	if r := h.Ramp; r != nil {
		v.number("halfOpen.ramp.from", r.From, 0, 1)
		v.check(r.To > 0 && r.To <= 1, "halfOpen.ramp.to", "must be above 0 and at most 1", r.To)
		v.check(!(r.To < r.From), "halfOpen.ramp.to", fmt.Sprintf("must be at least halfOpen.ramp.from (%v)", r.From), r.To)
		v.duration("halfOpen.ramp.over", r.Over, time.Millisecond)
		return
	}
	v.count("halfOpen.calls", h.Calls, 0, MaxProbes)
	if h.Calls <= 0 {
		return // nothing else applies
	}
	v.check(h.Concurrent >= 1 && h.Concurrent <= h.Calls, "halfOpen.concurrent",
		fmt.Sprintf("must be between 1 and halfOpen.calls (%d)", h.Calls), h.Concurrent)
	v.check(h.Tolerate >= 0 && h.Tolerate < h.Calls, "halfOpen.tolerate",
		fmt.Sprintf("must be at least 0 and below halfOpen.calls (%d)", h.Calls), h.Tolerate)
	v.duration("halfOpen.timeout", h.Timeout, time.Millisecond)
}

func (v *validator) ejection() {
	e := &v.settings.Ejection
	v.number("ejection.maxPercent", e.MaxPercent, 0, 100)
	v.check(e.MinHealthy >= 0 && e.MinHealthy <= math.MaxInt32, "ejection.minHealthy", "must be at least 0", e.MinHealthy)
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
