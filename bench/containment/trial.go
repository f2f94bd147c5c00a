package containment

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// call is one request as its client saw it.
type call struct {
	began, ended time.Time
	good         bool // answered with 200
	rejected     bool // answered with 503
}

// trial is what happened once to one peer.
type trial struct {
	failed, healed time.Time
	calls          []call
	arrivals       []time.Time
	checks         int // health checks of proxies, which are no requests of clients
}

// Times of a trial after the backend fails.
const (
	failFor    = 2 * time.Second // and up to one second more, so that healing meets every phase of a peer's retries
	recoverFor = 4 * time.Second // at most
)

// try runs one trial in a new network.
func try(ctx context.Context, r *part.Run, c cell, who contestant, phase time.Duration) (t trial, err error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	b, err := newBackend(site, c.how)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	p, err := site.Start(who.kind, who.set)
	if err != nil {
		return t, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := 32
	if c.how == hang || c.how == blackHole {
		workers = int(c.rate*patience.Seconds()*1.2) + 16
	}
	load := loadgen.Load{
		Dial: site.Client.DialContext, Targets: []netip.AddrPort{p.Target},
		Workers: workers, Rate: c.rate, Timeout: patience,
	}
	if !c.keep {
		load.Every = 1
		load.Request.Close = true
	}
	var mu sync.Mutex
	recovered := make(chan struct{})
	var enough sync.Once
	streak := 0
	load.Done = func(_ netip.AddrPort, res loadgen.Result) {
		mu.Lock()
		defer mu.Unlock()
		one := call{began: res.Began, ended: time.Now(), good: res.Status == 200, rejected: res.Status == 503}
		t.calls = append(t.calls, one)
		if t.healed.IsZero() {
			return
		}
		if streak++; !one.good {
			streak = 0
		}
		if streak == 2*goodInARow {
			enough.Do(func() { close(recovered) })
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- load.Run(ctx) }()

	if !sleep(ctx, c.good) {
		return t, ctx.Err()
	}
	if err := b.fail(); err != nil {
		return t, err
	}
	t.failed = time.Now()
	if !sleep(ctx, failFor+phase) {
		return t, ctx.Err()
	}
	if err := b.heal(); err != nil {
		return t, err
	}
	mu.Lock()
	t.healed = time.Now()
	mu.Unlock()
	timer := time.NewTimer(recoverFor)
	defer timer.Stop()
	select {
	case <-recovered:
	case <-timer.C:
	case <-ctx.Done():
		return t, ctx.Err()
	}
	cancel()
	if err := <-ended; err != nil {
		return t, err
	}
	t.arrivals, t.checks = b.arrivals(), b.healthChecks()
	slices.SortFunc(t.arrivals, time.Time.Compare)
	slices.SortFunc(t.calls, func(a, b call) int { return a.began.Compare(b.began) })
	return t, nil
}

// phase draws when a backend heals, the same for all peers of a round.
func phase(round int) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(8, uint64(round))).Int64N(int64(time.Second)))
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
