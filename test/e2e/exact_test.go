package e2e

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/tables"
)

// datapath is the programs without an agent: nothing but the kernel counts.
type datapath struct {
	*loader.Datapath
	node     *netlab.Namespace
	failures atomic.Uint64 // outcomes told through the ring
}

// Policies of a datapath: the one knows no timeout, so that a slow machine makes none.
const (
	patient = iota
	impatient
)

// newDatapath attaches the programs to the node's interfaces and watches the backends with a circuit each, in order.
func newDatapath(t *testing.T, node *netlab.Namespace, o loader.Options, interfaces []string, backends []netip.AddrPort) *datapath {
	t.Helper()
	loaded := verifying()
	raw, err := loader.Load(o)
	loaded()
	if err != nil {
		t.Fatal(err)
	}
	d := &datapath{Datapath: raw, node: node}
	var failure breaker.ResultSet
	failure.AddRange(500, 599)
	for _, r := range []breaker.Result{
		breaker.ResultConnectRefused, breaker.ResultConnectTimeout, breaker.ResultReset, breaker.ResultTimeout,
	} {
		failure.Add(r)
	}
	var ignore breaker.ResultSet
	ignore.Add(breaker.ResultAborted)
	none := tables.NoAnswers()
	settings := tables.PolicySettings{
		Failure: failure, Ignore: ignore, Existing: true, Answers: none, HTTP2Answers: none, GRPCAnswers: none,
	}
	for index, timeout := range map[int]time.Duration{patient: 0, impatient: 300 * time.Millisecond} {
		settings.Timeout = timeout
		if err := d.PutPolicy(index, settings); err != nil {
			t.Fatal(err)
		}
	}
	for i, at := range backends {
		if err := d.ResetCircuit(i, 0); err != nil {
			t.Fatal(err)
		}
		d.SetPolicy(i, patient)
		d.SetVerdict(i, ledger.Verdict{Kind: ledger.Closed, Generation: 1})
		if err := d.PutBackend(tables.Backend{Addr: at, Direction: tables.Outbound}, i, 0); err != nil {
			t.Fatal(err)
		}
	}
	d.RenewLease(tables.Now() + int64(time.Hour))
	err = node.Do(func() error {
		for _, name := range interfaces {
			if _, err := d.Attach(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { d.follow(ctx, t) })
	t.Cleanup(func() {
		cancel()
		loop.Wait()
		if err := node.Do(d.Close); err != nil {
			t.Error(err)
		}
	})
	return d
}

// follow counts events, and sweeps ten times a second, until the context ends.
func (d *datapath) follow(ctx context.Context, t *testing.T) {
	const tick = 100 * time.Millisecond
	sweep := time.Now()
	for ctx.Err() == nil {
		if now := time.Now(); !now.Before(sweep) {
			if _, err := d.Sweep(time.Hour); err != nil {
				t.Error(err)
			}
			sweep = now.Add(tick)
		}
		switch ev, err := d.NextEvent(sweep); {
		case errors.Is(err, tables.ErrNoEvent):
		case err != nil:
			t.Error(err)
			return
		case ev.Kind == ledger.EventOutcome && ev.Failure:
			d.failures.Add(1)
		}
	}
}

// observed returns the outcomes of a circuit by their names, those that are zero left out.
func (d *datapath) observed(t *testing.T, circuit int) map[string]uint64 {
	t.Helper()
	got := map[string]uint64{}
	all, err := d.Statuses()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Circuit == circuit {
			got[breaker.Result(s.Status).String()] = s.Count
		}
	}
	totals := d.Totals(circuit)
	for r, n := range totals.Outcomes[:breaker.ResultUnknown+1] {
		if n > 0 {
			got[breaker.Result(r).String()] = n
		}
	}
	return got
}

// expected returns what the programs should have seen of what a server did.
func expected(c testserver.Counts) map[string]uint64 {
	want := map[string]uint64{}
	for status, n := range c.ByStatus {
		want[breaker.Result(status).String()] = n
	}
	for result, n := range map[breaker.Result]uint64{
		breaker.ResultReset:   c.Resets + c.MidHeadResets + c.Closes,
		breaker.ResultTimeout: c.Hung,
		breaker.ResultAborted: c.Abandoned,
	} {
		if n > 0 {
			want[result.String()] = n
		}
	}
	return want
}

// mixture is everything that a server can do at once.
var mixture = []testserver.Part{
	{Behaviour: testserver.Behaviour{Body: []byte("fine")}, Times: 12},
	{Behaviour: testserver.Behaviour{Status: 500}, Times: 3},
	{Behaviour: testserver.Behaviour{Status: 404, Body: testserver.FakeTraffic(700)}, Times: 2},
	{Behaviour: testserver.Behaviour{Status: 503, Body: testserver.FakeTraffic(20000), Chunked: true}, Times: 2},
	{Behaviour: testserver.Behaviour{Body: testserver.FakeTraffic(40000)}, Times: 2},
	{Behaviour: testserver.Behaviour{Interim: []int{102, 103}}, Times: 2},
	{Behaviour: testserver.Behaviour{Interim: []int{103}, Status: 502}, Times: 1},
	{Behaviour: testserver.Behaviour{Status: 204}, Times: 1},
	{Behaviour: testserver.Behaviour{Status: 200, Close: true}, Times: 1},
	{Behaviour: testserver.Behaviour{Ending: testserver.EndReset}, Times: 1},
	{Behaviour: testserver.Behaviour{Ending: testserver.EndResetMidHead}, Times: 1},
	{Behaviour: testserver.Behaviour{Ending: testserver.EndClose}, Times: 1},
}

// nextOf cycles through requests that differ in method and body.
func nextOf() func() loadgen.Request {
	var n atomic.Uint64
	body := testserver.FakeTraffic(9000)
	return func() loadgen.Request {
		switch n.Add(1) % 4 {
		case 0:
			return loadgen.Request{Method: "POST", Body: body}
		case 1:
			return loadgen.Request{Method: "HEAD", Path: "/head"}
		case 2:
			return loadgen.Request{Method: "DELETE", Path: "/HTTP/1.1/500"}
		default:
			return loadgen.Request{Path: "/?q=GET%20/"}
		}
	}
}

// TestCountsAreExact compares what the programs saw of more than 50,000 requests with the servers' own counts.
func TestCountsAreExact(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]loader.Options{"tcx": {}, "clsact": {Clsact: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			one := netip.AddrPortFrom(star.Backends[0].IPv4, port)
			two := netip.AddrPortFrom(star.Backends[1].IPv6, port)
			servers := []*testserver.Server{
				serve(t, star.Backends[0].Namespace, one), serve(t, star.Backends[1].Namespace, two),
			}
			d := newDatapath(t, star.Node, o, []string{"be1", "be2"}, []netip.AddrPort{one, two})
			for _, s := range servers {
				s.SetDecide(testserver.Cycle(mixture...))
			}
			servers[1].SetSplit(7)
			var seen loadgen.Tally
			load := loadgen.Load{Dial: star.Client.DialContext, Targets: []netip.AddrPort{one, two}, Workers: 8, Done: seen.Done}
			for _, part := range []struct{ requests, every int }{{8000, 0}, {5500, 1}} {
				load.Requests, load.Every, load.Next = part.requests, part.every, nextOf()
				if err := load.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			wantEnds(t, seen.Counts())
			hang(t, d, star.Client, servers, []netip.AddrPort{one, two})
			judge(t, d, servers)
			if got, want := seen.Counts().Requests, 27000; got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
		})
	}
}

// countedPlaces are those of TestCountsAreExactOnEveryWay: what differs in packets, rather than in where they go.
var countedPlaces = []string{
	"IPv4", "IPv6", "host process", "DNAT and masquerade", "firewall", "client without timestamps", "client with ECN", "lo",
	"node itself IPv6", "VXLAN", "TUN offload", "pods", "QinQ pods", "MTU 9000", "GRO", "BIG TCP", "other routes", "marks", "everywhere",
	"VIP", "VIP, masqueraded IPv6", "VIP of 127.0.0.1", "masqueraded on lo",
}

// TestCountsAreExactOnEveryWay does the same with fewer requests on every way that a client can take, and with calls of
// HTTP/2.
func TestCountsAreExactOnEveryWay(t *testing.T) {
	t.Parallel()
	for name, newPlace := range ways(countedPlaces...) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			d := newDatapath(t, p.node, loader.Options{}, p.interfacesNow(t), []netip.AddrPort{p.backend, p.neighbour})
			if p.onNode {
				d.SetHostBackends(true)
				for i, at := range []netip.AddrPort{p.backend, p.neighbour} {
					if err := d.PutBackend(tables.Backend{Addr: at, Direction: tables.Outbound}, i, tables.OnHost); err != nil {
						t.Fatal(err)
					}
				}
			}
			servers := []*testserver.Server{p.server, p.other}
			for _, s := range servers {
				s.SetDecide(testserver.Cycle(mixture...))
			}
			targets := []netip.AddrPort{p.dial, p.neighbour}
			var seen loadgen.Tally
			load := loadgen.Load{Dial: p.client.DialContext, Targets: targets, Workers: 4, Done: seen.Done}
			for _, every := range []int{0, 1} {
				load.Requests, load.Every, load.Next = 600, every, nextOf()
				if err := load.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			wantEnds(t, seen.Counts())
			hang(t, d, p.client, servers, targets)
			judge(t, d, servers)
			if got, want := seen.Counts().Requests, 2400; got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
			streamsOnWay(t, d, p)
		})
	}
}

// hang sends requests that are never answered: some that clients give up before they count as timed out, and some that
// time out.
func hang(t *testing.T, d *datapath, from *netlab.Namespace, servers []*testserver.Server, targets []netip.AddrPort) {
	t.Helper()
	for i, s := range servers {
		clients := make([]*loadgen.Client, 20)
		s.Set(testserver.Behaviour{})
		for j := range clients {
			clients[j] = client(t, from, targets[i])
			wantStatus(t, call(t, clients[j]), 200)
		}
		giveUp, wait := clients[:10], clients[10:]
		s.Set(testserver.Behaviour{Delay: time.Hour})
		before := s.Counts()
		abandon(t, giveUp, func() bool { return s.Counts().Sub(before).Requests == 10 })
		eventually(t, "the server notices", func() bool { return s.Counts().Sub(before).Abandoned == 10 })
		// The server counts a request before it closes the connection. Until then the request could time out.
		eventually(t, "the programs notice", func() bool { return d.Totals(i).Outcomes[breaker.ResultAborted] == s.Counts().Abandoned })
		d.SetPolicy(i, impatient)
		s.Set(testserver.Behaviour{Ending: testserver.EndHang})
		abandon(t, wait, func() bool { return d.Totals(i).Outcomes[breaker.ResultTimeout] == 10 })
	}
}

// abandon sends a request with each client, and gives them up when it is time.
func abandon(t *testing.T, clients []*loadgen.Client, isTime func() bool) {
	t.Helper()
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	var calls sync.WaitGroup
	for _, c := range clients {
		c.Timeout = time.Hour
		calls.Go(func() {
			if r := c.Do(ctx, loadgen.Request{}); r.Err == nil {
				t.Errorf("got %s, want no answer", r.Outcome())
			}
		})
	}
	eventually(t, "time to give up", isTime)
	giveUp()
	calls.Wait()
}

// mostLogged bounds how many lines of a kind a failing test logs.
const mostLogged = 20

// logLeft logs what may be left of connections: those that the programs follow, the node's sockets, and the packets that
// the programs saw.
func (d *datapath) logLeft(t *testing.T) {
	t.Helper()
	left, err := d.DescribeFlows(mostLogged)
	if err != nil {
		t.Error(err)
	}
	for _, flow := range left {
		t.Log("followed:", flow)
	}
	if err := d.node.Do(func() error { return logSockets(t) }); err != nil {
		t.Error(err)
	}
	packets, err := d.Packets()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d connections are followed, the backends count %d and %d; packets: %+v", d.NodeCounts().Flows,
		int64(d.Connections(0)), int64(d.Connections(1)), packets)
}

// logSockets logs the TCP sockets of the thread's namespace as the kernel lists them, except those of listeners and in
// TIME-WAIT.
func logSockets(t *testing.T) error {
	t.Helper()
	for _, family := range []string{"tcp", "tcp6"} {
		all, err := os.ReadFile("/proc/thread-self/net/" + family)
		if err != nil {
			return err
		}
		logged := 0
		for line := range strings.Lines(string(all)) {
			// The number, the two addresses, and the state in hexadecimal digits.
			f := strings.Fields(line)
			if len(f) > 3 && f[3] != "06" && f[3] != "0A" && logged < mostLogged {
				t.Logf("socket of %s: %s", family, strings.TrimSpace(line))
				logged++
			}
		}
	}
	return nil
}

// wantEnds fails the test if a client had to wait in vain: here each gets an answer, a reset or a close.
func wantEnds(t *testing.T, clients loadgen.Counts) {
	t.Helper()
	for outcome, n := range clients.ByOutcome {
		switch loadgen.Class(outcome) {
		case loadgen.ConnectRefused, loadgen.ConnectTimeout, loadgen.Timeout, loadgen.Failed:
			t.Errorf("%d requests of clients ended with %s", n, outcome)
		}
	}
}

// judge compares the programs' counts with those of the servers, once nothing is under way any more.
func judge(t *testing.T, d *datapath, servers []*testserver.Server) {
	t.Helper()
	defer func() {
		if t.Failed() {
			d.logLeft(t)
		}
	}()
	var failures uint64
	for i, s := range servers {
		eventually(t, "all is counted", func() bool {
			c := s.Counts()
			return c.Hung+c.Abandoned+c.Answered()+c.Resets+c.MidHeadResets+c.Closes == c.Requests && d.Totals(i).InFlight == 0
		})
		counts := s.Counts()
		want := expected(counts)
		if got := d.observed(t, i); !maps.Equal(got, want) {
			for _, key := range slices.Sorted(maps.Keys(want)) {
				t.Errorf("backend %d: %s: the programs saw %d, the server counted %d", i, key, got[key], want[key])
				delete(got, key)
			}
			t.Errorf("backend %d: the programs saw %v besides", i, got)
		}
		totals := d.Totals(i)
		if totals.Admitted != counts.Requests {
			t.Errorf("backend %d: %d requests admitted, the server counted %d", i, totals.Admitted, counts.Requests)
		}
		for status, n := range counts.ByStatus {
			if status >= 500 {
				failures += n
			}
		}
		failures += counts.Resets + counts.MidHeadResets + counts.Closes + counts.Hung
		eventually(t, "connections are forgotten", func() bool { return d.Totals(i).Connections == 0 })
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
