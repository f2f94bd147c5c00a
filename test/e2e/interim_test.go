package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/loader"
)

// TestInterimResponsesUnderLoss: a response in several segments of which one is lost is seen, or ends as unknown when the
// next request shows that it was read. None is pending for ever.
func TestInterimResponsesUnderLoss(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behaviour testserver.Behaviour
		split     int
	}{
		"103":                {testserver.Behaviour{Interim: []int{103}}, 0},
		"102 and 103":        {testserver.Behaviour{Interim: []int{102, 103}, Body: testserver.FakeTraffic(3000)}, 0},
		"status in segments": {testserver.Behaviour{}, 5},
	} {
		for _, every := range []int{0, 20} {
			t.Run(fmt.Sprintf("%s, %d a connection", name, every), func(t *testing.T) {
				t.Parallel()
				star := newStar(t, netlab.Options{Backends: 1, ClientRelay: true, BackendRelays: true, Seed: 1})
				at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
				server := serve(t, star.Backends[0].Namespace, at)
				server.Set(c.behaviour)
				server.SetSplit(c.split)
				d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
				impaired := impair(t, netlab.Impairment{Loss: 0.02}, star.ClientRelay, star.Backends[0].Relay)
				const requests = 1000
				var tally loadgen.Tally
				load := loadgen.Load{
					Dial: star.Client.DialContext, Targets: []netip.AddrPort{at}, Workers: 20, Requests: requests, Every: every,
					Timeout: patience, Done: tally.Done,
				}
				if err := load.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
				impaired()
				if got := tally.Counts(); got.ByOutcome["200"] != requests {
					t.Errorf("clients got %v, want %d times 200", got.ByOutcome, requests)
				}
				if n := d.Totals(0).Admitted; n != requests {
					t.Errorf("%d requests were admitted, want %d", n, requests)
				}
				eventually(t, fmt.Sprintf("nothing of %v is in flight", d.observed(t, 0)), func() bool {
					return d.Totals(0).InFlight == 0 && d.Totals(0).Connections == 0
				})
				// Loss can hide few.
				got := d.observed(t, 0)
				if got["200"]+got["unknown"] != requests || got["unknown"] > requests/10 {
					t.Errorf("outcomes %v, want %d of 200 and at most %d unknown", got, requests, requests/10)
				}
			})
		}
	}
}
