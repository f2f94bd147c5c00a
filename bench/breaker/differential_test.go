package breaker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"pgregory.net/rapid"

	"github.com/cbagent/cbagent/internal/breaker"
)

// bubble hides T.Deadline, which may not be asked for where time is not real.
type bubble struct{ testing.TB }

var errBad, errExcluded = errors.New("bad"), errors.New("excluded")

func (r result) err() error { return [...]error{good: nil, bad: errBad, excluded: errExcluded}[r] }

// other is another library's circuit: ask returns how to report the end of a request, or nil.
type other func() func(r result)

// alike sends the same requests through both and wants the same answers. Waits are even numbers of milliseconds and
// openings last odd ones, because libraries differ about the very moment of a deadline.
func alike(t *rapid.T, o *ours, ask other, start time.Time, overlap bool) {
	type request struct {
		ours   func(breaker.Time, result)
		theirs func(result)
	}
	var open []request
	now := func() breaker.Time { return breaker.Time(time.Since(start)) }
	results := []result{good, good, bad, bad, bad}
	if overlap {
		results = append(results, excluded)
	}
	finish := func(t *rapid.T) {
		if len(open) == 0 {
			return
		}
		i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
		r := rapid.SampledFrom(results).Draw(t, "result")
		open[i].ours(now(), r)
		open[i].theirs(r)
		open = append(open[:i:i], open[i+1:]...)
	}
	actions := map[string]func(*rapid.T){
		"ask": func(t *rapid.T) {
			q := request{ours: o.ask(now()), theirs: ask()}
			if (q.ours == nil) != (q.theirs == nil) {
				t.Fatalf("at %v, %v: admitted by us %v, by them %v", now(), o.circuit.Status(), q.ours != nil, q.theirs != nil)
			}
			if q.ours == nil {
				return
			}
			open = append(open, q)
			if !overlap {
				finish(t)
			}
		},
		"wait": func(t *rapid.T) {
			time.Sleep(2 * time.Millisecond * time.Duration(rapid.IntRange(0, 1500).Draw(t, "wait")))
		},
	}
	if overlap {
		actions["finish"] = finish
	}
	t.Repeat(actions)
}

func TestLikeGobreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			failures := rapid.IntRange(1, 4).Draw(t, "failures")
			calls := rapid.IntRange(1, 4).Draw(t, "calls")
			o := newOurs(t, func(s *breaker.Settings) {
				s.Trip = breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: failures}
				s.Open.Duration = 5001 * time.Millisecond
				s.HalfOpen = probes(calls)
			})
			theirs := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
				MaxRequests: uint32(calls),
				Timeout:     5001 * time.Millisecond,
				ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(failures) },
				IsExcluded:  func(err error) bool { return err == errExcluded },
			})
			alike(t, o, func() func(result) {
				done, err := theirs.Allow()
				if err != nil {
					return nil
				}
				return func(r result) { done(r.err()) }
			}, time.Now(), true)
		})
	})
}

// TestLikeFailsafe: so many failures of the last n, then so many good probes in a row.
func TestLikeFailsafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			size := rapid.IntRange(1, 12).Draw(t, "size")
			failures := rapid.IntRange(1, size).Draw(t, "failures")
			calls := rapid.IntRange(1, 4).Draw(t, "calls")
			o := newOurs(t, func(s *breaker.Settings) {
				s.Window = count(size)
				s.Trip = breaker.Trip{Kind: breaker.TripFailureCount, N: failures}
				s.Open.Duration = 5001 * time.Millisecond
				s.HalfOpen = probes(calls)
			})
			theirs := circuitbreaker.NewBuilder[any]().
				WithFailureThresholdRatio(uint(failures), uint(size)).
				WithSuccessThreshold(uint(calls)).
				WithDelay(5001 * time.Millisecond).
				Build()
			alike(t, o, func() func(result) {
				if !theirs.TryAcquirePermit() {
					return nil
				}
				return func(r result) {
					if r == bad {
						theirs.RecordFailure()
					} else {
						theirs.RecordSuccess()
					}
				}
			}, time.Now(), false)
		})
	})
}

// resilient is what the documentation of Resilience4j says of a count-based window: rates are asked once the minimum of
// calls is there, and n probes decide by the rate of bad ones. We re-open as soon as that is certain; it waits for all n.
type resilient struct {
	size, minimum, calls int
	failureRate          float64
	wait                 time.Duration

	open, half bool
	since      time.Time
	recent     []result
}

func (c *resilient) ask() func(result) {
	if c.open && !c.half && time.Since(c.since) >= c.wait {
		c.half, c.recent = true, nil
	}
	if c.open && !c.half {
		return nil
	}
	return c.record
}

func (c *resilient) record(r result) {
	c.recent = append(c.recent, r)
	if !c.half && len(c.recent) > c.size {
		c.recent = c.recent[1:]
	}
	failed := 0
	for _, r := range c.recent {
		if r == bad {
			failed++
		}
	}
	over := float64(failed)/float64(len(c.recent)) >= c.failureRate
	switch {
	case !c.open && len(c.recent) >= c.minimum && over:
		c.open, c.since, c.recent = true, time.Now(), nil
	case c.half && (float64(failed)/float64(c.calls) >= c.failureRate): // certain, whatever the rest will be
		c.half, c.since, c.recent = false, time.Now(), nil
	case c.half && len(c.recent) == c.calls:
		c.open, c.half, c.recent = false, false, nil
	}
}

func TestLikeResilience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			theirs := &resilient{
				size:        rapid.IntRange(1, 12).Draw(t, "size"),
				calls:       rapid.IntRange(1, 5).Draw(t, "calls"),
				failureRate: rapid.SampledFrom([]float64{0.25, 0.5, 2.0 / 3, 1}).Draw(t, "rate"),
				wait:        5001 * time.Millisecond,
			}
			theirs.minimum = rapid.IntRange(1, theirs.size).Draw(t, "minimum")
			tolerate := 0 // as many bad probes as leave the rate below the threshold
			for float64(tolerate+1)/float64(theirs.calls) < theirs.failureRate {
				tolerate++
			}
			o := newOurs(t, func(s *breaker.Settings) {
				s.Window = count(theirs.size)
				s.Trip = all(breaker.Trip{Kind: breaker.TripMinCalls, N: theirs.minimum},
					breaker.Trip{Kind: breaker.TripFailureRate, Rate: theirs.failureRate})
				s.Open.Duration = theirs.wait
				s.HalfOpen = probes(theirs.calls)
				s.HalfOpen.Tolerate = tolerate
			})
			alike(t, o, theirs.ask, time.Now(), false)
		})
	})
}
