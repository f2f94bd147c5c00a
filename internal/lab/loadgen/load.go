package loadgen

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Load describes a stream of requests. It is bounded by Requests, or by the context, or both.
type Load struct {
	Dial    Dial
	Targets []netip.AddrPort // each gets a load of its own, as described below
	Workers int              // clients per target, each with one request at a time; default 1

	// Rate is the number of requests a second to each target. 0 sends each as soon as the one before is done (a closed
	// loop). Otherwise requests are due at fixed moments, whether or not earlier ones are done (an open loop, as far as
	// there are workers): one that finds no worker free starts late, and Result.Began is when it was due.
	Rate float64

	Requests int            // to each target; 0 = until the context ends
	Every    int            // a new connection for each n-th request of a worker; 1 = for all; 0 = as the server wants
	Timeout  time.Duration  // of connecting, and of each request; default 10 s
	Request  Request        // what is sent
	Next     func() Request // if set, what is sent; called concurrently

	// Done is called with each result, from all workers at once. Requests cut off by the end of the context are not
	// reported.
	Done func(target netip.AddrPort, r Result)
}

// Run sends the load and returns when every request has ended. It returns an error only for a Load that makes no
// sense.
func (l Load) Run(ctx context.Context) error {
	if l.Dial == nil || l.Done == nil || len(l.Targets) == 0 {
		return fmt.Errorf("load: Dial, Done and Targets are needed")
	}
	if l.Workers < 0 || l.Rate < 0 || l.Requests < 0 || l.Every < 0 {
		return fmt.Errorf("load: Workers, Rate, Requests and Every cannot be negative")
	}
	var workers sync.WaitGroup
	for _, target := range l.Targets {
		began := time.Now()
		var taken atomic.Int64
		for range max(1, l.Workers) {
			workers.Go(func() { l.work(ctx, target, began, &taken) })
		}
	}
	workers.Wait()
	return nil
}

// work is one client: it takes the next request until there is none.
func (l Load) work(ctx context.Context, target netip.AddrPort, began time.Time, taken *atomic.Int64) {
	c := &Client{Dial: l.Dial, Target: target, Timeout: l.Timeout}
	defer c.Close()
	for own := 1; ; own++ {
		n := taken.Add(1) - 1
		if l.Requests > 0 && n >= int64(l.Requests) {
			return
		}
		var due time.Time
		if l.Rate > 0 {
			due = began.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
			if !sleepUntil(ctx, due) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		req := l.Request
		if l.Next != nil {
			req = l.Next()
		}
		r := c.Do(ctx, req)
		if r.Err != nil && ctx.Err() != nil {
			return
		}
		if l.Rate > 0 {
			r.Began = due
		}
		l.Done(target, r)
		if l.Every > 0 && own%l.Every == 0 {
			c.Close()
		}
	}
}

// sleepUntil returns false if the context ends first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
