package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// opened returns a place whose circuit is open for long, with two idle connections from before.
func opened(t *testing.T, name string, keys ...string) (place, []*loadgen.Client) {
	t.Helper()
	p := places[name](t)
	return p, openAt(t, p, keys...)
}

// openAt opens the circuit of a place for long, and returns two idle connections from before.
func openAt(t *testing.T, p place, keys ...string) (idle []*loadgen.Client) {
	t.Helper()
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(keys, threeFailures...)...), p.interfaces)
	for range 2 {
		c := client(t, p.client, p.dial)
		wantStatus(t, call(t, c), 200)
		idle = append(idle, c)
	}
	c := client(t, p.client, p.backend)
	openCircuit(t, agent, p.server, c)
	return idle
}

func TestPostOfOneMegabyte(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"DNAT and masquerade IPv6", "host process", "firewall", "VIP, masqueraded", "VIP of ::1",
		"client without timestamps", "client without SACK and window scaling",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, idle := opened(t, name)
			before := p.server.Counts()
			post := loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(1 << 20)}
			fresh := client(t, p.client, p.dial)
			for range 5 {
				wantAnswer(t, fresh.Do(soon(t), post), "open")
			}
			for _, c := range idle {
				wantAnswer(t, c.Do(soon(t), post), "open")
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.BodyBytes != 0 {
				t.Errorf("the backend saw %+v", got)
			}
		})
	}
}

func TestHeadGetsNoBody(t *testing.T) {
	t.Parallel()
	p, idle := opened(t, "IPv4")
	for _, c := range append(idle, client(t, p.client, p.dial)) {
		r := c.Do(soon(t), loadgen.Request{Method: "HEAD"})
		if reason, ok := r.FromKernel(); r.Status != 503 || !ok || reason != "open" || len(r.Body) != 0 {
			t.Errorf("got %s (kernel %v) with %d bytes, %v; want the kernel's 503 without a body", r.Outcome(), ok, len(r.Body), r.Err)
		}
	}
	// The connection ends right after the headers: nothing lies behind them.
	raw, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	got := exchange(t, raw, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasSuffix(got, "\r\n\r\n") || strings.Count(got, "\r\n\r\n") != 1 {
		t.Errorf("the answer to HEAD is %q, want headers alone", got)
	}
	if !strings.Contains(got, "\r\nConnection: close\r\n") {
		t.Errorf("no Connection: close in %q", got)
	}
}

func TestAnswerSaysWhatThePolicySays(t *testing.T) {
	t.Parallel()
	p, _ := opened(t, "IPv4", `reject: {status: 429, contentType: text/plain, body: "later", headers: {X-Degraded: "yes"}}`)
	r := call(t, client(t, p.client, p.dial))
	if r.Status != 429 || string(r.Body) != "later" {
		t.Errorf("got %s with %q, %v; want 429 with %q", r.Outcome(), r.Body, r.Err, "later")
	}
	for key, want := range map[string]string{
		"Server": "cbagent", "X-Cbagent-Reason": "open", "Content-Type": "text/plain", "X-Degraded": "yes",
	} {
		if got := r.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	var seconds int
	if _, err := fmt.Sscan(r.Header.Get("Retry-After"), &seconds); err != nil || seconds < 200 || seconds > 300 {
		t.Errorf("Retry-After: %q, want the seconds left of five minutes", r.Header.Get("Retry-After"))
	}
}

func TestResetRefusesConnections(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"IPv6", "DNAT and masquerade", "host process", "lo", "bridge", "firewall",
		"VIP, masqueraded IPv6", "VIP of 127.0.0.1", "client without timestamps",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, idle := opened(t, name, "reject: {with: reset}")
			before := p.server.Counts()
			for range 3 {
				if r := call(t, client(t, p.client, p.dial)); r.Class != loadgen.ConnectRefused {
					t.Errorf("new connection: got %s, %v; want ECONNREFUSED", r.Outcome(), r.Err)
				}
			}
			for _, c := range idle {
				if r := call(t, c); r.Class != loadgen.Reset {
					t.Errorf("open connection: got %s, %v; want a reset", r.Outcome(), r.Err)
				}
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
		})
	}
}

func TestDropLeavesClientsWaiting(t *testing.T) {
	t.Parallel()
	p, idle := opened(t, "IPv4", "reject: {with: drop}")
	before := p.server.Counts()
	fresh := client(t, p.client, p.dial)
	fresh.Timeout, idle[0].Timeout = 300*time.Millisecond, 300*time.Millisecond
	if r := call(t, fresh); r.Class != loadgen.ConnectTimeout {
		t.Errorf("new connection: got %s, %v; want silence", r.Outcome(), r.Err)
	}
	if r := call(t, idle[0]); r.Class != loadgen.Timeout {
		t.Errorf("open connection: got %s, %v; want silence", r.Outcome(), r.Err)
	}
	if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
		t.Errorf("the backend saw %+v", got)
	}
}

func TestOpenConnectionsAreLeftAloneIfThePolicySaysSo(t *testing.T) {
	t.Parallel()
	p, idle := opened(t, "IPv4", "reject: {existing: false}")
	for _, c := range idle {
		wantStatus(t, call(t, c), 500)
	}
	wantAnswer(t, call(t, client(t, p.client, p.dial)), "open")
}

// A client whose connection came in through an uplink is its own node's business.
func TestRemoteClientIsLeftAlone(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, Remote: true})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	at6 := netip.AddrPortFrom(star.Backends[0].IPv6, port)
	server := serve(t, star.Backends[0].Namespace, at, at6)
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at, at6}, threeFailures...), []string{"be*", "up0"})
	for _, target := range []netip.AddrPort{at, at6} {
		server.Set(testserver.Behaviour{Status: 500})
		remote := client(t, star.Remote, target)
		for range 10 {
			wantStatus(t, call(t, remote), 500) // not judged: ten in a row, and the circuit is closed
		}
		server.Set(testserver.Behaviour{})
		local := client(t, star.Client, target)
		wantStatus(t, call(t, local), 200)
		openCircuit(t, agent, server, local)
		wantAnswer(t, call(t, local), "open")
		wantStatus(t, call(t, remote), 500)
		wantStatus(t, call(t, client(t, star.Remote, target)), 500)
	}
	if n := len(agent.Transitions()); n != 2 {
		t.Errorf("%d transitions, want one for each circuit", n)
	}
}
