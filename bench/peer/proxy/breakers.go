package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"github.com/vulcand/oxy/v2/cbreaker"
)

// rateWindow is over how much time a rate is taken: that of oxy, which cannot be changed.
const rateWindow = 10 * time.Second

// isOpen reports whether an error is a breaker's rejection.
func isOpen(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) ||
		errors.Is(err, circuitbreaker.ErrOpen)
}

// errStatus is a failure that came as an answer.
var errStatus = errors.New("status 5xx")

// failure tells what a breaker is to think of an exchange.
func failure(resp *http.Response, err error) error {
	if err == nil && resp.StatusCode >= 500 {
		return errStatus
	}
	return err
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newGobreaker(o Options, next http.RoundTripper) http.RoundTripper {
	cb := gobreaker.NewTwoStepCircuitBreaker[*http.Response](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     rateWindow,
		BucketPeriod: time.Second,
		Timeout:      o.Open,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			if o.Trip.Consecutive > 0 {
				return c.ConsecutiveFailures >= o.Trip.Consecutive
			}
			return c.Requests >= o.Trip.MinCalls && float64(c.TotalFailures) >= o.Trip.Rate*float64(c.Requests)
		},
	})
	return transportFunc(func(r *http.Request) (*http.Response, error) {
		done, err := cb.Allow()
		if err != nil {
			return nil, err
		}
		resp, err := next.RoundTrip(r)
		done(failure(resp, err))
		return resp, err
	})
}

func newFailsafe(o Options, next http.RoundTripper) http.RoundTripper {
	build := circuitbreaker.NewBuilder[*http.Response]().WithDelay(o.Open).WithSuccessThreshold(1)
	if o.Trip.Consecutive > 0 {
		build = build.WithFailureThreshold(uint(o.Trip.Consecutive))
	} else {
		build = build.WithFailureRateThreshold(o.Trip.Rate, uint(o.Trip.MinCalls), rateWindow)
	}
	cb := build.Build()
	return transportFunc(func(r *http.Request) (*http.Response, error) {
		if !cb.TryAcquirePermit() {
			return nil, circuitbreaker.ErrOpen
		}
		resp, err := next.RoundTrip(r)
		if failure(resp, err) != nil {
			cb.RecordFailure()
		} else {
			cb.RecordSuccess()
		}
		return resp, err
	})
}

// newOxy trips on a share of 5xx, its own 502 and 504 included; it knows no failures in a row.
func newOxy(o Options, next http.Handler) (http.Handler, error) {
	rate := o.Trip.Rate
	if o.Trip.Consecutive > 0 {
		rate = 0.5
	}
	cb, err := cbreaker.New(next, fmt.Sprintf("ResponseCodeRatio(500, 600, 0, 600) > %g", rate),
		cbreaker.FallbackDuration(o.Open), cbreaker.RecoveryDuration(o.Open))
	if err != nil {
		return nil, fmt.Errorf("proxy: oxy: %w", err)
	}
	return cb, nil
}
