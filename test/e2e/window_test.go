package e2e

import (
	"context"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// TestWindowsCountSuccessesThatNobodyTold opens a circuit by a rate over many calls. Plain successes make no event: the
// agent knows of them from the totals alone, and its window must hold each of them once.
func TestWindowsCountSuccessesThatNobodyTold(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]string{
		"count": "window: {type: count, size: 100000}", "time": "window: {type: time, size: 5m}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, window,
				"trip: [{all: [{minCalls: 10000}, {failureRate: 0.09}]}]", "open: {duration: 5m, max: 5m}"), p.interfaces)
			const oneIn = 10
			p.server.SetDecide(testserver.Cycle(
				testserver.Part{Behaviour: testserver.Behaviour{}, Times: oneIn - 1},
				testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 1},
			))
			const workers = 8
			var tally loadgen.Tally
			done := make(chan error, 1)
			go func() {
				done <- loadgen.Load{
					Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: workers, Requests: 15000, Done: tally.Done,
				}.Run(context.Background())
			}()
			opened, err := agent.Await(soon(t), p.backend.String(), "open", time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			counts := p.server.Counts()
			t.Logf("opened by %+v after %d requests", opened, counts.Requests)
			if counts.Requests < 10000 {
				t.Errorf("opened after %d requests, want 10000 or more", counts.Requests)
			}
			// At any moment all but those under way are counted.
			if off := math.Abs(opened.Value - 1.0/oneIn); opened.Reason != "failureRate" || off > 2*workers/10000.0 {
				t.Errorf("opened by %s %g; want failureRate %g, give or take what was under way", opened.Reason, opened.Value, 1.0/oneIn)
			}
			if got := tally.Counts().ByOutcome; uint64(got["503"]) != 15000-counts.Requests || uint64(got["200"]) != counts.ByStatus[200] || uint64(got["500"]) != counts.ByStatus[500] {
				t.Errorf("clients got %v, the backend counted %v; want the rest of 15000 rejected", got, counts.ByStatus)
			}
		})
	}
}

// TestSuccessesEndStreaks: two failures in a row, then a success that makes no event, over and over, open nothing.
func TestSuccessesEndStreaks(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	p.server.SetDecide(testserver.Cycle(
		testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 2},
		testserver.Part{Behaviour: testserver.Behaviour{}, Times: 1},
	))
	var tally loadgen.Tally
	// One client, so that the order in which outcomes end is that of the server.
	load := loadgen.Load{Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Requests: 3000, Every: 7, Done: tally.Done}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := tally.Counts(); got.ByOutcome["500"] != 2000 || got.ByOutcome["200"] != 1000 {
		t.Errorf("got %v, want 2000 and 1000: two failures in a row open nothing", got.ByOutcome)
	}
	if got := agent.Transitions(); len(got) > 0 {
		t.Errorf("transitions %+v, want none", got)
	}
	openCircuit(t, agent, p.server, client(t, p.client, p.dial))
}
