package e2e

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/tables"
)

// TestPermitsAreExact has many clients on all CPUs rush at circuits that have just half-opened: never is one more
// admitted than there are permits. Not parallel: a race takes all processors.
func TestPermitsAreExact(t *testing.T) {
	for name, c := range map[string]struct{ calls, concurrent, admitted uint32 }{
		"one":        {1, 1, 1},
		"three":      {3, 3, 3},
		"ten":        {10, 10, 10},
		"two of ten": {10, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			star := newStar(t, netlab.Options{Backends: 1})
			at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
			server := serve(t, star.Backends[0].Namespace, at)
			server.Set(testserver.Behaviour{Ending: testserver.EndHang})
			d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
			for round := range uint32(15) {
				before, probes := server.Counts().Requests, d.Totals(0).Probes
				d.SetVerdict(0, ledger.Verdict{
					Kind: ledger.Open, Generation: 2*round + 2, Until: tables.Now(), Calls: c.calls, Concurrent: c.concurrent,
				})
				rejected, stop := rush(t, star.Client, at)
				eventually(t, "clients are rejected", func() bool {
					return rejected.Load() >= 200 && server.Counts().Requests-before >= uint64(c.admitted)
				})
				if got := server.Counts().Requests - before; got != uint64(c.admitted) {
					t.Errorf("round %d: the backend saw %d requests, want %d", round, got, c.admitted)
				}
				if got := d.Totals(0).Probes - probes; got != uint64(c.admitted) {
					t.Errorf("round %d: %d probes counted, want %d", round, got, c.admitted)
				}
				if got := d.Progress(0); got.Permits != c.admitted || got.InFlight != c.admitted {
					t.Errorf("round %d: %d permits used, %d out; want %d of each", round, got.Permits, got.InFlight, c.admitted)
				}
				d.SetVerdict(0, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2*round + 4})
				stop()
				eventually(t, "all connections end", func() bool { return d.Totals(0).Connections == 0 })
			}
		})
	}
}

// rush calls the backend from 16 clients, with a connection for each request, until stop is called.
func rush(t *testing.T, from *netlab.Namespace, at netip.AddrPort) (rejected *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	rejected = &atomic.Int64{}
	done := make(chan error, 1)
	go func() {
		done <- loadgen.Load{
			Dial: from.DialContext, Targets: []netip.AddrPort{at}, Workers: 16, Every: 1,
			Done: func(_ netip.AddrPort, r loadgen.Result) {
				if r.Class == loadgen.ConnectRefused {
					rejected.Add(1)
				} else {
					t.Errorf("got %s, %v; want a rejection", r.Outcome(), r.Err)
				}
			},
		}.Run(ctx)
	}()
	return rejected, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
