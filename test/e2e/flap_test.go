package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// TestOpeningAndClosingUnderLoad lets a backend fail and heal over and over, under load on kept and on new connections:
// every client gets the backend's answer or the kernel's, whole; the backend sees exactly the requests that it answered;
// and the neighbour's clients notice nothing.
func TestOpeningAndClosingUnderLoad(t *testing.T) {
	t.Parallel()
	const openings = 6
	for name, newPlace := range map[string]func(*testing.T) place{
		"IPv6": places["IPv6"], "lo": places["lo"], "TUN offload": places["TUN offload"],
		"DNAT and masquerade": places["DNAT and masquerade"], "inbound": inboundPlaces["pod"],
		"VIP, masqueraded": vipPlaces["VIP, masqueraded"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, append(p.policy,
				"trip: [{consecutiveFailures: 3}]", "open: {duration: 100ms, backoff: none}", "halfOpen: {calls: 2}")...), p.interfaces)
			before := p.server.Counts()
			stopNeighbour := callNeighbour(t, p)
			ctx, stop := context.WithCancel(soon(t))
			defer stop()
			var tally loadgen.Tally
			done := make(chan error, 2)
			body := testserver.FakeTraffic(5000)
			for _, every := range []int{0, 2} {
				load := loadgen.Load{
					Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 8, Rate: 500, Every: every, Timeout: patience,
					Request: loadgen.Request{Method: "POST", Body: body}, Done: tally.Done,
				}
				go func() { done <- load.Run(ctx) }()
			}
			for n := 0; n < openings; n++ {
				began := time.Now()
				p.server.Set(testserver.Behaviour{Status: 500})
				opened, err := agent.Await(ctx, p.backend.String(), "open", began)
				if err != nil {
					t.Fatal(err)
				}
				p.server.Set(testserver.Behaviour{})
				if _, err := agent.Await(ctx, p.backend.String(), "closed", opened.At); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			for range 2 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			got := tally.Counts()
			rejected := got.FromKernel["open"] + got.FromKernel["half-open"]
			if fine := got.ByOutcome["200"] + got.ByOutcome["500"] + rejected; fine != got.Requests || rejected == 0 || got.ByOutcome["200"] == 0 {
				t.Errorf("clients got %v, %v of them from the kernel; want answers alone, of both", got.ByOutcome, got.FromKernel)
			}
			// Clients that were cut off at the end were not counted, at most one for each worker.
			seen := p.server.Counts().Sub(before)
			if cut := int(seen.Requests) - got.ByOutcome["200"] - got.ByOutcome["500"]; cut < 0 || cut > 16 {
				t.Errorf("the backend saw %d requests, clients got %v", seen.Requests, got.ByOutcome)
			}
			if n := stopNeighbour(); n == 0 {
				t.Error("the neighbour was never called")
			}
			for _, tr := range agent.Transitions() {
				if tr.Backend != p.backend.String() {
					t.Errorf("another circuit changed: %+v", tr)
				}
			}
			eventually(t, "all connections have ended", func() bool {
				connections, circuits := metric(t, p.node, "cbagent_connections")
				requests, _ := metric(t, p.node, "cbagent_requests_in_flight")
				return circuits == 2 && connections == 0 && requests == 0 && established(t, p.home, p.backend.Port()) == 0
			})
		})
	}
}
