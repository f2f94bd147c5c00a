package e2e

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/tables"
)

// TestHTTP2CountsAreExact compares what the programs saw of 100,000 calls, on connections with many streams, with the
// servers' own counts.
func TestHTTP2CountsAreExact(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]loader.Options{"tcx": {}, "clsact": {Clsact: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			targets := []netip.AddrPort{
				netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv6, port),
			}
			d := newDatapath(t, star.Node, o, []string{"be1", "be2"}, targets)
			servers := []*streamServer{
				serveStreams(t, star.Backends[0].Namespace, targets[0]), serveStreams(t, star.Backends[1].Namespace, targets[1]),
			}
			servers[1].early.Store(true)
			for i, load := range []streamLoad{
				{target: targets[0], connections: 20, calls: 1000, streams: 60},
				{target: targets[0], connections: 500, calls: 10, streams: 5},
				{target: targets[1], connections: 50, calls: 500, streams: 3},
			} {
				load.dial, load.endings = star.Client.DialContext, endings
				load.run(t)
				if t.Failed() {
					t.Fatalf("load %d", i)
				}
			}
			hangStreams(t, d, star.Client, servers, targets)
			judgeStreams(t, d, servers, 50000)
		})
	}
}

// streamsOnWay compares counts on a way on which requests of HTTP/1.x have been counted: the backend now serves HTTP/2.
func streamsOnWay(t *testing.T, d *datapath, p place) {
	t.Helper()
	if err := errors.Join(p.server.Close(), d.ForgetStatuses(map[int]bool{0: true}), d.ResetCircuit(0, 0)); err != nil {
		t.Fatal(err)
	}
	d.SetPolicy(0, patient)
	d.SetVerdict(0, ledger.Verdict{Kind: ledger.Closed, Generation: 1})
	d.failures.Store(0)
	server := serveStreams(t, p.home, p.backend)
	streamLoad{dial: p.client.DialContext, target: p.dial, connections: 10, calls: 62, streams: 20, endings: endings}.run(t)
	judgeStreams(t, d, []*streamServer{server}, 620)
}

// TestHTTP2CountsAreExactUnderLoss loses, repeats and reorders packets before and behind the programs, in both directions.
func TestHTTP2CountsAreExactUnderLoss(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, ClientRelay: true, BackendRelays: true, Seed: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
	server := serveStreams(t, star.Backends[0].Namespace, at)
	impaired := impair(t, netlab.Impairment{Loss: 0.01, Duplicate: 0.01, Reorder: 0.05}, star.ClientRelay, star.Backends[0].Relay)
	// A lost reset is never sent again, so all connections are closed.
	streamLoad{
		dial: star.Client.DialContext, target: at, connections: 40, calls: 100, streams: 10, endings: [][]task{{}},
	}.run(t)
	judgeStreams(t, d, []*streamServer{server}, 4000)
	impaired()
}

// TestHTTP2CountsAreExactInPieces sends all a byte at a time, in both directions.
func TestHTTP2CountsAreExactInPieces(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
	server := serveStreams(t, star.Backends[0].Namespace, at)
	server.pieces.Store(true)
	streamLoad{
		dial: star.Client.DialContext, target: at, connections: 5, calls: 31, streams: 4, endings: endings, pieces: true,
	}.run(t)
	judgeStreams(t, d, []*streamServer{server}, 155)
}

// hangStreams sends calls that time out.
func hangStreams(t *testing.T, d *datapath, from *netlab.Namespace, servers []*streamServer, targets []netip.AddrPort) {
	t.Helper()
	const calls = 10
	for i, s := range servers {
		c, err := dialStreams(t.Context(), from.DialContext, targets[i], calls, false, 1)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is counted", func() bool { return d.Totals(i).InFlight == 0 })
		d.SetPolicy(i, impatient)
		for range calls {
			if err := c.do(0, deedHang); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "calls time out", func() bool { return d.Totals(i).Outcomes[breaker.ResultTimeout] == calls })
		aborted := s.outcomes[breaker.ResultAborted].Load()
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		// Then the client leaves, which the server counts.
		eventually(t, "the server notices", func() bool { return s.outcomes[breaker.ResultAborted].Load() == aborted+calls })
		s.outcomes[breaker.ResultAborted].Store(aborted)
		s.outcomes[breaker.ResultTimeout].Store(calls)
	}
}

// judgeStreams compares the programs' counts with those of the servers, once nothing is under way any more.
func judgeStreams(t *testing.T, d *datapath, servers []*streamServer, least uint64) {
	t.Helper()
	defer func() {
		if t.Failed() {
			d.logLeft(t)
		}
	}()
	var calls, failures uint64
	for i, s := range servers {
		eventually(t, "all is counted", func() bool {
			var ended uint64
			for r := range s.outcomes {
				ended += s.outcomes[r].Load()
			}
			return ended == s.calls.Load() && d.Totals(i).InFlight == 0
		})
		calls += s.calls.Load()
		totals := d.Totals(i)
		got, want := map[string]uint64{}, s.wants()
		for class, n := range totals.Outcomes {
			if n > 0 {
				got[tables.OutcomeName(class)] = n
			}
		}
		if !maps.Equal(got, want) {
			for _, key := range slices.Sorted(maps.Keys(want)) {
				if got[key] != want[key] {
					t.Errorf("backend %d: %s: the programs saw %d, the server counted %d", i, key, got[key], want[key])
				}
				delete(got, key)
			}
			t.Errorf("backend %d: the programs saw %v besides", i, got)
		}
		if totals.Admitted != s.calls.Load() {
			t.Errorf("backend %d: %d calls admitted, the server counted %d", i, totals.Admitted, s.calls.Load())
		}
		all, err := d.Statuses()
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range all {
			if n := s.outcomes[status.Status].Load(); status.Circuit == i && status.Count != n {
				t.Errorf("backend %d: the programs saw %d times %d, the server counted %d", i, status.Count, status.Status, n)
			}
		}
		failures += want["5xx"] + want["reset"] + want["timeout"]
		eventually(t, "connections are forgotten", func() bool { return d.Totals(i).Connections == 0 })
	}
	if calls < least {
		t.Errorf("%d calls, want %d at least", calls, least)
	}
	node := d.NodeCounts()
	if node.LostEvents > 0 || node.Flows > 0 {
		t.Errorf("%d events lost, %d connections still followed", node.LostEvents, node.Flows)
	}
	eventually(t, "all failures are told", func() bool { return d.failures.Load() >= failures })
	if got := d.failures.Load(); got != failures {
		t.Errorf("%d failures were told, want %d", got, failures)
	}
	packets, err := d.Packets()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if p.Action != "pass" || p.Reason == "error" || p.Reason == "short" {
			t.Errorf("%d packets met %s for %s at %s", p.Packets, p.Action, p.Reason, p.Hook)
		}
	}
}
