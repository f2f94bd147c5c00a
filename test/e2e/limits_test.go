package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// atOnce has so many clients, with a connection each that stays open, send a request at the same moment.
func atOnce(t *testing.T, p place, clients int) ([]*loadgen.Client, loadgen.Counts) {
	t.Helper()
	all := make([]*loadgen.Client, clients)
	for i := range all {
		all[i] = client(t, p.client, p.dial)
	}
	return all, requestAtOnce(t, all)
}

func requestAtOnce(t *testing.T, all []*loadgen.Client) loadgen.Counts {
	t.Helper()
	ctx := soon(t)
	var tally loadgen.Tally
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			<-start
			tally.Done(c.Target, c.Do(ctx, loadgen.Request{}))
		})
	}
	close(start)
	wg.Wait()
	return tally.Counts()
}

// wantMetric waits until the agent's series of that name add up to a number.
func wantMetric(t *testing.T, p place, want float64, name string, labels ...string) {
	t.Helper()
	var got float64
	deadline := time.Now().Add(patience)
	for {
		if got, _ = metric(t, p.node, name, labels...); got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s%v is %v, want %v", name, labels, got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// However many clients connect at once, exactly maxConnections are let through.
func TestMaxConnectionsIsExact(t *testing.T) {
	t.Parallel()
	const limit = 12
	for _, name := range []string{"IPv4", "IPv6", "lo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places[name](t)
			startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, fmt.Sprintf("limits: {maxConnections: %d}", limit)), p.interfaces)
			rejected := 0.0
			for round := range 5 {
				before := p.server.Counts()
				all, got := atOnce(t, p, 10*limit)
				if got.ByOutcome["200"] != limit || got.FromKernel["connection-limit"] != 9*limit || got.ByOutcome["503"] != 9*limit {
					t.Fatalf("round %d: clients got %v, %v by the kernel; want %d admitted", round, got.ByOutcome, got.FromKernel, limit)
				}
				if n := p.server.Counts().Sub(before).Connections; n != limit {
					t.Errorf("round %d: the backend saw %d connections, want %d", round, n, limit)
				}
				rejected += 9 * limit
				wantMetric(t, p, limit, "cbagent_connections")
				wantMetric(t, p, rejected, "cbagent_rejected_total", `reason="connection-limit"`)
				for _, c := range all {
					c.Close()
				}
				wantMetric(t, p, 0, "cbagent_connections")
			}
		})
	}
}

// With tcp a connection over the limit is rejected at once.
func TestMaxConnectionsOfTCP(t *testing.T) {
	t.Parallel()
	const limit = 10
	p := places["IPv4"](t)
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "protocol: tcp", fmt.Sprintf("limits: {maxConnections: %d}", limit)), p.interfaces)
	for round := range 5 {
		open := make(chan net.Conn, 10*limit)
		var wg sync.WaitGroup
		ctx := soon(t)
		for range 10 * limit {
			wg.Go(func() {
				c, err := p.client.DialContext(ctx, "tcp", p.dial.String())
				switch {
				case err == nil:
					open <- c
				case !errors.Is(err, syscall.ECONNREFUSED):
					t.Errorf("%v, want %v", err, syscall.ECONNREFUSED)
				}
			})
		}
		wg.Wait()
		close(open)
		if len(open) != limit {
			t.Errorf("round %d: %d connections, want %d", round, len(open), limit)
		}
		for c := range open {
			_ = c.Close()
		}
		wantMetric(t, p, 0, "cbagent_connections")
	}
}

func TestMaxRequests(t *testing.T) {
	t.Parallel()
	const limit = 5
	p := places["IPv4"](t)
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, fmt.Sprintf("limits: {maxRequests: %d}", limit)), p.interfaces)
	all := make([]*loadgen.Client, 10*limit)
	for i := range all {
		all[i] = client(t, p.client, p.dial)
		wantStatus(t, call(t, all[i]), 200) // the connections are there: what is limited is requests
	}
	before := p.server.Counts()
	p.server.Set(testserver.Behaviour{Delay: 2 * time.Second})
	got := requestAtOnce(t, all)
	if got.ByOutcome["200"] != limit || got.FromKernel["request-limit"] != 9*limit || got.ByOutcome["503"] != 9*limit {
		t.Errorf("clients got %v, %v by the kernel; want %d admitted", got.ByOutcome, got.FromKernel, limit)
	}
	if n := p.server.Counts().Sub(before).Requests; n != limit {
		t.Errorf("the backend saw %d requests, want %d", n, limit)
	}
	p.server.Set(testserver.Behaviour{})
	wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
	wantMetric(t, p, 0, "cbagent_requests_in_flight")
	wantMetric(t, p, 9*limit, "cbagent_rejected_total", `reason="request-limit"`)
}

func TestMaxRequestsPerConnection(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "limits: {maxRequestsPerConnection: 3}"), p.interfaces)
	c := client(t, p.client, p.dial)
	for range 3 {
		for range 3 {
			wantStatus(t, call(t, c), 200)
		}
		wantAnswer(t, call(t, c), "connection-limit") // and the client opens another connection
	}
	if n := p.server.Counts().Requests; n != 9 {
		t.Errorf("the backend saw %d requests, want 9", n)
	}
}

// In five seconds of rush exactly what the limit allows gets through, to within one. Not parallel: a client that waits for a
// processor leaves tokens unused.
func TestRateLimitIsExact(t *testing.T) {
	const limit, burst = 40, 15
	for name, keys := range map[string][]string{"http": {"protocol: http"}, "tcp": {"protocol: tcp", "reject: {with: reset}"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
				append(keys, fmt.Sprintf("rateLimit: {limit: %d, period: 1s, burst: %d}", limit, burst))...), p.interfaces)
			var mu sync.Mutex
			var first, last time.Time
			var retry, wrong []string
			admitted := 0
			ctx, cancel := context.WithCancel(context.Background())
			defer time.AfterFunc(5*time.Second, cancel).Stop()
			err := loadgen.Load{
				Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 4, Rate: 400, Every: 1,
				Done: func(_ netip.AddrPort, r loadgen.Result) {
					mu.Lock()
					defer mu.Unlock()
					ended := r.Began.Add(r.Connect + r.Latency)
					if first.IsZero() || r.Began.Before(first) {
						first = r.Began
					}
					if ended.After(last) {
						last = ended
					}
					reason, _ := r.FromKernel()
					switch {
					case r.Status == 200:
						admitted++
					case r.Status == 429 && reason == "rate-limit" && name == "http" && string(r.Body) == defaultBody(reason):
						retry = append(retry, r.Header.Get("Retry-After"))
					case r.Class == loadgen.ConnectRefused && name == "tcp":
						retry = append(retry, "1")
					default:
						wrong = append(wrong, fmt.Sprintf("%s %q %v", r.Outcome(), reason, r.Err))
					}
				},
			}.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(wrong) > 0 {
				t.Errorf("%d clients got something else, such as %s", len(wrong), wrong[0])
			}
			for _, s := range retry {
				if n, err := strconv.Atoi(s); err != nil || n != 1 {
					t.Fatalf("Retry-After: %q, want 1", s)
				}
			}
			ideal := burst + limit*last.Sub(first).Seconds()
			t.Logf("%d admitted, ideal %.2f, %d rejected", admitted, ideal, len(retry))
			if float64(admitted) > ideal || float64(admitted) < ideal-1.5 {
				t.Errorf("%d admitted in %s, want %.2f", admitted, last.Sub(first), ideal)
			}
			if len(retry) == 0 {
				t.Error("nobody was rejected")
			}
		})
	}
}

// A ramp admits a growing share of the clients, all of which it judges. Not parallel: a client that waits for a processor
// meets another share than the one of its time.
func TestRampAdmitsAGrowingShare(t *testing.T) {
	const over = 4 * time.Second
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 500ms}",
		"halfOpen: {ramp: {from: 0.1, to: 0.9, over: 4s}}"), p.interfaces)
	opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	p.server.Set(testserver.Behaviour{})
	began := opened.Until
	const parts = 4
	var mu sync.Mutex
	var tried, admitted [parts]int
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- loadgen.Load{
			Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 8, Rate: 400, Every: 1,
			Done: func(_ netip.AddrPort, r loadgen.Result) {
				mu.Lock()
				defer mu.Unlock()
				at := r.Began
				i := int(parts * at.Sub(began) / over)
				if at.Before(began) || i >= parts {
					return
				}
				tried[i]++
				if r.Status == 200 {
					admitted[i]++
				} else if reason, _ := r.FromKernel(); reason != "half-open" {
					t.Errorf("got %s (%q), %v", r.Outcome(), reason, r.Err)
				}
			},
		}.Run(ctx)
	}()
	closed, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if closed.Reason != "rampPassed" || closed.At.Sub(began) < over {
		t.Errorf("closed by %+v, %s after the ramp began", closed, closed.At.Sub(began))
	}
	for i := range parts {
		want := 0.1 + 0.8*(float64(i)+0.5)/parts
		share := float64(admitted[i]) / float64(tried[i])
		// Five deviations of the draw, and what a client may be late.
		if tolerance := 5*math.Sqrt(want*(1-want)/float64(tried[i])) + 0.06; math.Abs(share-want) > tolerance || tried[i] < 50 {
			t.Errorf("part %d: %d of %d admitted, a share of %.3f; want %.3f +- %.3f", i, admitted[i], tried[i], share, want, tolerance)
		}
	}
}

// In monitor everybody gets through, and each who would not have is counted once.
func TestMonitorCounts(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(threeFailures, "mode: monitor")...), p.interfaces)
	openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	before := p.server.Counts()
	kept := client(t, p.client, p.dial)
	for range 10 {
		wantStatus(t, call(t, kept), 500)
		wantStatus(t, call(t, client(t, p.client, p.dial)), 500)
	}
	if n := p.server.Counts().Sub(before).Requests; n != 20 {
		t.Errorf("the backend saw %d requests, want 20", n)
	}
	wantMetric(t, p, 20, "cbagent_would_reject_total", `reason="open"`)
	wantMetric(t, p, 20, "cbagent_would_reject_total")
	wantMetric(t, p, 0, "cbagent_rejected_total")
}

// A ramp judges those whom it would admit, also where nobody is rejected.
func TestMonitorJudgesARamp(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: monitor", "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 300ms, max: 10m}", "halfOpen: {ramp: {from: 1, over: 10m}}"), p.interfaces)
	c := client(t, p.client, p.backend)
	opened := openCircuit(t, agent, p.server, c)
	half, err := agent.Await(soon(t), p.backend.String(), "half-open", opened.At)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantStatus(t, call(t, c), 500)
	}
	again, err := agent.Await(soon(t), p.backend.String(), "open", half.At)
	if err != nil {
		t.Fatal(err)
	}
	if again.Reason != "consecutiveFailures" || again.Value != 3 {
		t.Errorf("opened again by %+v; want three failures in a row", again)
	}
}

func TestMonitorCountsLimits(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: monitor", "limits: {maxConnections: 2}",
		"rateLimit: {limit: 1, period: 1h, burst: 4}"), p.interfaces)
	for range 2 {
		c := client(t, p.client, p.dial)
		for range 3 {
			wantStatus(t, call(t, c), 200)
		}
	}
	wantMetric(t, p, 2, "cbagent_would_reject_total", `reason="rate-limit"`)
	// Who is counted for his connection is not counted again for its request.
	for range 3 {
		wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
	}
	wantMetric(t, p, 3, "cbagent_would_reject_total", `reason="connection-limit"`)
	wantMetric(t, p, 2, "cbagent_would_reject_total", `reason="rate-limit"`)
	wantMetric(t, p, 5, "cbagent_connections")
}

func TestForcedOpenAndDisabled(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: forced-open")+
		fmt.Sprintf("- {name: off, mode: disabled, match: {addresses: [%q]}, trip: [{consecutiveFailures: 3}], "+
			"limits: {maxConnections: 1}, rateLimit: {limit: 1, period: 1h}}\n", p.neighbour), p.interfaces)
	p.other.Set(testserver.Behaviour{Status: 500})
	for range 10 {
		r := call(t, client(t, p.client, p.dial))
		wantAnswer(t, r, "forced-open")
		if got := r.Header.Get("Retry-After"); got != "" {
			t.Errorf("Retry-After: %s, although nobody knows", got)
		}
		wantStatus(t, call(t, client(t, p.client, p.neighbour)), 500)
	}
	if n := p.server.Counts().Connections; n != 0 {
		t.Errorf("the backend saw %d connections", n)
	}
	if got := agent.Transitions(); len(got) != 0 {
		t.Errorf("transitions %+v, want none", got)
	}
	wantMetric(t, p, 10, "cbagent_rejected_total", `reason="forced-open"`)
}

// With tcp it is refused connections that open a circuit, and connections that are rejected.
func TestTCP(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]loadgen.Class{"reset": loadgen.ConnectRefused, "drop": loadgen.ConnectTimeout} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
				append(threeFailures, "protocol: tcp", "reject: {with: "+how+"}")...), p.interfaces)
			kept := client(t, p.client, p.dial)
			wantStatus(t, call(t, kept), 200)
			refuse(t, p)
			failThrice(t, p, agent, "connect-refused")
			if err := p.server.Accept(); err != nil {
				t.Fatal(err)
			}
			before := p.server.Counts()
			for range 3 {
				c := client(t, p.client, p.dial)
				c.Timeout = 300 * time.Millisecond
				if r := call(t, c); r.Class != want {
					t.Errorf("got %s, %v; want %s", r.Outcome(), r.Err, want)
				}
			}
			wantStatus(t, call(t, kept), 200) // with tcp it is new connections that are rejected
			if n := p.server.Counts().Sub(before).Connections; n != 0 {
				t.Errorf("the backend saw %d connections", n)
			}
		})
	}
}

// Exempt clients are admitted where others are rejected, and the outcomes of their calls are not judged.
func TestExemptSources(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
		append(threeFailures, fmt.Sprintf("exempt: {sources: [%q]}", netip.PrefixFrom(netlab.ClientIPv4, 32)))...), p.interfaces)
	p.server.Set(testserver.Behaviour{Status: 500})
	for range 6 {
		wantStatus(t, call(t, client(t, p.client, p.dial)), 500)
	}
	p.server.Set(testserver.Behaviour{})
	wantStatus(t, call(t, client(t, p.node, p.dial)), 200)
	if got := agent.Transitions(); len(got) != 0 {
		t.Fatalf("transitions %+v of what exempt clients met", got)
	}
	openCircuit(t, agent, p.server, client(t, p.node, p.backend))
	wantAnswer(t, call(t, client(t, p.node, p.dial)), "open")
	wantStatus(t, call(t, client(t, p.client, p.dial)), 500)
}

// A backend that answers nobody is found out by the age of what it owes.
func TestPendingAge(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{pendingAge: 700ms}]", "outcome: {timeout: 0s}",
		"open: {duration: 5m}"), p.interfaces)
	wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
	p.server.Set(testserver.Behaviour{Ending: testserver.EndHang})
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	c := client(t, p.client, p.dial)
	c.Timeout = time.Hour
	wg.Go(func() { _ = c.Do(ctx, loadgen.Request{}) })
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	cancel()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if opened.Reason != "pendingAge" || opened.At.Sub(began) < 700*time.Millisecond {
		t.Errorf("opened by %+v after %s", opened, opened.At.Sub(began))
	}
	wantAnswer(t, call(t, client(t, p.client, p.dial)), "open")
}

// Inbound policies protect backends of this node from clients elsewhere: pods, and the host's own servers. Clients of
// this node are none of their business.
func TestInbound(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(*netlab.Star) (netip.AddrPort, *netlab.Namespace){
		"pod": func(s *netlab.Star) (netip.AddrPort, *netlab.Namespace) {
			return netip.AddrPortFrom(s.Backends[0].IPv4, port), s.Backends[0].Namespace
		},
		"pod IPv6": func(s *netlab.Star) (netip.AddrPort, *netlab.Namespace) {
			return netip.AddrPortFrom(s.Backends[0].IPv6, port), s.Backends[0].Namespace
		},
		"host": func(s *netlab.Star) (netip.AddrPort, *netlab.Namespace) {
			return netip.AddrPortFrom(netlab.NodeIPv4, port), s.Node
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 1, Remote: true})
			backend, home := at(star)
			server := serve(t, home, backend)
			agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{backend}, append(threeFailures, "direction: inbound")...),
				[]string{"be*", "up0", "cl0"}, "--uplink", "up0")
			kept := client(t, star.Remote, backend)
			wantStatus(t, call(t, kept), 200)
			local := client(t, star.Client, backend)
			server.Set(testserver.Behaviour{Status: 500})
			for range 6 {
				wantStatus(t, call(t, local), 500)
			}
			if got := agent.Transitions(); len(got) != 0 {
				t.Fatalf("transitions %+v of what local clients met", got)
			}
			server.Set(testserver.Behaviour{})
			openCircuit(t, agent, server, client(t, star.Remote, backend))
			before := server.Counts()
			for range 5 {
				wantAnswer(t, call(t, client(t, star.Remote, backend)), "open")
			}
			wantAnswer(t, call(t, kept), "open")
			if n := server.Counts().Sub(before).Requests; n != 0 {
				t.Errorf("the backend saw %d requests of remote clients", n)
			}
			wantStatus(t, call(t, local), 500)
			wantStatus(t, call(t, client(t, star.Client, backend)), 500)
		})
	}
}

// Both directions of one backend are judged by themselves.
func TestBothDirections(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, Remote: true})
	backend := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	server := serve(t, star.Backends[0].Namespace, backend)
	policy := policyOf([]netip.AddrPort{backend}, append(threeFailures, "reject: {body: outbound}")...) +
		fmt.Sprintf("- {name: in, direction: inbound, match: {addresses: [%q]}, trip: [{consecutiveFailures: 3}], open: {duration: 5m}, reject: {body: inbound}}\n", backend)
	agent := startAgent(t, star.Node, policy, []string{"be*", "up0"}, "--uplink", "up0")
	openCircuit(t, agent, server, client(t, star.Client, backend))
	server.Set(testserver.Behaviour{})
	if r := call(t, client(t, star.Client, backend)); string(r.Body) != "outbound" {
		t.Errorf("local client: got %s %q", r.Outcome(), r.Body)
	}
	remote := client(t, star.Remote, backend)
	wantStatus(t, call(t, remote), 200)
	server.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		wantStatus(t, call(t, remote), 500)
	}
	eventually(t, "the inbound circuit opens", func() bool { return string(call(t, client(t, star.Remote, backend)).Body) == "inbound" })
	if r := call(t, client(t, star.Client, backend)); string(r.Body) != "outbound" {
		t.Errorf("local client: got %s %q", r.Outcome(), r.Body)
	}
}
