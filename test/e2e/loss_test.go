package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/loader"
)

// TestCountsAreExactUnderLoss loses packets before and behind the programs, in both directions: what is sent again is
// counted once, and so is what comes twice.
func TestCountsAreExactUnderLoss(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, ClientRelay: true, BackendRelays: true, Seed: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	server := serve(t, star.Backends[0].Namespace, at)
	d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
	impaired := impair(t, netlab.Impairment{Loss: 0.02, Duplicate: 0.02}, star.ClientRelay, star.Backends[0].Relay)
	// A lost reset is never sent again, so these servers answer.
	server.SetDecide(testserver.Cycle(
		testserver.Part{Behaviour: testserver.Behaviour{Body: testserver.FakeTraffic(3000)}, Times: 5},
		testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 2},
		testserver.Part{Behaviour: testserver.Behaviour{Status: 404, Chunked: true, Body: testserver.FakeTraffic(30000)}, Times: 1},
	))
	var tally loadgen.Tally
	load := loadgen.Load{
		Dial: star.Client.DialContext, Targets: []netip.AddrPort{at}, Workers: 32, Requests: 1600, Timeout: patience, Done: tally.Done,
	}
	for _, load.Every = range []int{0, 4} {
		load.Next = nextOf()
		if err := load.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if got := tally.Counts().ByOutcome; got["200"] != 2000 || got["500"] != 800 || got["404"] != 400 {
		t.Errorf("clients got %v; want 2000, 800 and 400", got)
	}
	judge(t, d, []*testserver.Server{server})
	impaired()
}

// TestRequestsInSmallPieces sends requests a byte at a time: judged once, and answered whole.
func TestRequestsInSmallPieces(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"IPv4", "IPv6", "lo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places[name](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
			const request = "GET /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			began := time.Now()
			p.server.Set(testserver.Behaviour{Status: 500})
			for range 3 {
				if got := sendInPieces(t, p, request); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
					t.Fatalf("got %q, want a 500", got)
				}
			}
			if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				got := sendInPieces(t, p, request)
				if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasSuffix(got, `{"error":"circuit open"}`) {
					t.Errorf("got %q, want the kernel's whole 503", got)
				}
			}
			if got := p.server.Counts(); got.Requests != 3 {
				t.Errorf("the backend saw %d requests, want 3", got.Requests)
			}
		})
	}
}

// sendInPieces opens a connection, sends the request in segments of a byte, and returns all that comes back.
func sendInPieces(t *testing.T, p place, request string) string {
	t.Helper()
	c, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i := range len(request) - 1 {
		if _, err := c.Write([]byte(request[i : i+1])); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	return exchange(t, c, request[len(request)-1:])
}

// TestAnswerBeforeTheBodyIsRead: a server that has said its status is done, whatever happens to the rest of the request.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	server := serve(t, star.Backends[0].Namespace, at)
	d := newDatapath(t, star.Node, loader.Options{}, []string{"be1"}, []netip.AddrPort{at})
	server.Set(testserver.Behaviour{Status: 413, Early: true})
	load := loadgen.Load{
		Dial: star.Client.DialContext, Targets: []netip.AddrPort{at}, Workers: 8, Requests: 400,
		Request: loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(600_000)}, Done: func(netip.AddrPort, loadgen.Result) {},
	}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	judge(t, d, []*testserver.Server{server})
}

// TestExpectContinue: the interim answer that a careful client waits for is no outcome.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
	careful := func() string {
		c, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, head)
		first := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
		if _, err := io.ReadFull(c, first); err != nil {
			t.Fatal(err)
		}
		if string(first) != "HTTP/1.1 100 Continue\r\n\r\n" {
			return string(first) + rest(t, c)
		}
		return exchange(t, c, "body")
	}
	began := time.Now()
	p.server.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		if got := careful(); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
			t.Fatalf("got %q, want a 500", got)
		}
	}
	if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	if got := careful(); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("got %q, want the kernel's 503", got)
	}
	if got := p.server.Counts(); got.ByStatus[500] != 3 || got.Requests != 3 {
		t.Errorf("the backend saw %+v, want three requests", got)
	}
}

// rest reads a connection to its end.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPortsAreUsedAgain has a client with few ports of its own: what the kernel answered on one leaves no trace that
// could harm the next connection from it.
func TestPortsAreUsedAgain(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	set(t, p.client, "net.ipv4.ip_local_port_range", "40000 40019")
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 2s}", "halfOpen: {calls: 1}"), p.interfaces)
	var during, after loadgen.Tally
	load := loadgen.Load{
		Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 4, Every: 1,
		Request: loadgen.Request{Close: true}, Requests: 1000,
	}
	c := client(t, p.client, p.dial)
	opened := openCircuit(t, agent, p.server, c)
	p.server.Set(testserver.Behaviour{})
	load.Done = during.Done // the kernel closes first, so ports are free again at once
	for time.Now().Before(opened.Until.Add(-time.Second)) {
		if err := load.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the circuit closes", func() bool {
		_ = c.Do(soon(t), loadgen.Request{Close: true})
		_, closed, _ := agent.Find(p.backend.String(), "closed", opened.At)
		return closed
	})
	// A port rests for a while when it is the client who closes first: there may be none left, which is no request.
	load.Done = func(target netip.AddrPort, r loadgen.Result) {
		if !errors.Is(r.Err, syscall.EADDRNOTAVAIL) {
			after.Done(target, r)
		}
	}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := during.Counts(); got.FromKernel["open"] != got.Requests {
		t.Errorf("while open: %v, %v by the kernel, of %d; want nothing else", got.ByOutcome, got.FromKernel, got.Requests)
	}
	if got := after.Counts(); got.ByOutcome["200"] != got.Requests || got.Requests < 40 {
		t.Errorf("when closed: %v, want nothing but 200, each port twice at least", got.ByOutcome)
	}
}
