package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// When the agent dies its verdicts die too: with its programs if they are attached by links, which go with it, and when
// the lease runs out if they are filters, which stay. Clients reach the backend again.
func TestKilledAgentReleasesClients(t *testing.T) {
	t.Parallel()
	for name, modes := range map[string][]string{"IPv4": {"tcx", "clsact"}, "IPv6": {"clsact"}, "lo": {"tcx", "clsact"}} {
		for _, mode := range modes {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				p := places[name](t)
				flags := []string{"--lease", "8s"}
				if mode == "clsact" {
					flags = append(flags, "--clsact")
				}
				agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces, flags...)
				c := client(t, p.client, p.dial)
				wantStatus(t, call(t, c), 200)
				openCircuit(t, agent, p.server, c)
				wantAnswer(t, call(t, c), "open")
				agent.Kill()
				if mode == "clsact" {
					wantAnswer(t, call(t, c), "open") // the lease was renewed a second ago at most
				}
				eventually(t, "clients are admitted", func() bool {
					r := call(t, c)
					if _, kernel := r.FromKernel(); !kernel && r.Status != 500 {
						t.Fatalf("got %s, %v; want an answer of the kernel or of the backend", r.Outcome(), r.Err)
					}
					return r.Status == 500
				})
				p.server.Set(testserver.Behaviour{})
				wantStatus(t, call(t, c), 200)
				wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
			})
		}
	}
}

// An agent that ends detaches: nothing of it is left on the node's interfaces.
func TestStoppedAgentDetaches(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	c := client(t, p.client, p.dial)
	wantStatus(t, call(t, c), 200)
	openCircuit(t, agent, p.server, c)
	wantAnswer(t, call(t, c), "open")
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, call(t, c), 500)
	wantStatus(t, call(t, client(t, p.client, p.dial)), 500)
}

// A circuit that half-opens admits exactly its probes, however many clients wait.
func TestHalfOpenAdmitsExactlyItsCalls(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 500ms}", "halfOpen: {calls: 3, timeout: 1m}"), p.interfaces)
	c := client(t, p.client, p.dial)
	wantStatus(t, call(t, c), 200)
	opened := openCircuit(t, agent, p.server, c)
	p.server.Set(testserver.Behaviour{Ending: testserver.EndHang}) // probes hang: the circuit stays half-open
	before := p.server.Counts()
	stop := hammer(t, p, 16)
	if _, err := agent.Await(soon(t), p.backend.String(), "half-open", opened.At); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three probes", func() bool { return p.server.Counts().Sub(before).Hung >= 3 })
	got := stop(500)
	if n := p.server.Counts().Sub(before).Requests; n != 3 {
		t.Errorf("the backend saw %d requests, want 3", n)
	}
	if got["half-open"] < 500 {
		t.Errorf("clients were answered %v; want at least 500 for half-open", got)
	}
}

// A connection that the kernel accepted is answered by it even if its circuit has closed meanwhile.
func TestCircuitClosesBetweenConnectAndRequest(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 1s}", "halfOpen: {calls: 1}"), p.interfaces)
	c := client(t, p.client, p.dial)
	wantStatus(t, call(t, c), 200)
	opened := openCircuit(t, agent, p.server, c)
	early, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close() }()
	p.server.Set(testserver.Behaviour{})
	eventually(t, "the circuit closes", func() bool {
		_ = call(t, c)
		_, closed, _ := agent.Find(p.backend.String(), "closed", opened.At)
		return closed
	})
	before := p.server.Counts()
	answer := exchange(t, early, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if want := "HTTP/1.1 503 "; len(answer) < len(want) || answer[:len(want)] != want {
		t.Errorf("got %q, want the kernel's 503", answer)
	}
	if got := p.server.Counts().Sub(before); got.Connections != 0 || got.Requests != 0 {
		t.Errorf("the backend saw %+v of a connection that it never accepted", got)
	}
	wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
}

// A client whose SYN was let through before the circuit opened, and whose connection is made after that, is answered.
func TestCircuitOpensBetweenSYNAndItsRetransmission(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	other := client(t, p.client, p.dial)
	wantStatus(t, call(t, other), 200)

	const unlucky = 40000 // a client's port, to which no answer comes at first
	err := p.client.NFT(`table inet lossy {
		chain in { type filter hook input priority 0; tcp dport 40000 drop; }
	}`)
	if err != nil {
		t.Fatal(err)
	}
	before := p.server.Counts()
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled)
	go func() {
		var d dialled
		d.err = p.client.Do(func() (err error) {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: unlucky}, Timeout: patience}
			d.conn, err = dialer.Dial("tcp", p.dial.String())
			return err
		})
		done <- d
	}()
	eventually(t, "the SYN is let through", func() bool { return pendingSYN(t, p, unlucky) })
	openCircuit(t, agent, p.server, other)
	if err := p.client.NFT("delete table inet lossy"); err != nil {
		t.Fatal(err)
	}
	d := <-done
	if d.err != nil {
		t.Fatalf("the connection was not made: %v", d.err)
	}
	defer func() { _ = d.conn.Close() }()
	answer := exchange(t, d.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 503 ") || !strings.Contains(answer, "\r\nServer: cbagent\r\n") {
		t.Errorf("got %q, want the kernel's 503", answer)
	}
	if got := p.server.Counts().Sub(before); got.Requests != 3 || got.ByStatus[500] != 3 {
		t.Errorf("the backend saw %+v, want nothing but the three failures", got)
	}
}

// pendingSYN reports whether the backend's kernel has answered the SYN of a client's port.
func pendingSYN(t *testing.T, p place, clientPort int) bool {
	t.Helper()
	found := false
	err := p.home.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		const synReceived = "03"
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			found = found || len(f) > 3 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", clientPort)) && f[3] == synReceived
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Requests that follow on a connection are judged like first ones: failures on one kept connection open the circuit.
func TestOpensWithinFailuresOfOneConnection(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{all: [{minCalls: 10}, {failureRate: 0.5}]}]",
		"open: {duration: 5m, max: 5m}", "window: {type: count, size: 10}"), p.interfaces)
	c := client(t, p.client, p.dial)
	for range 5 {
		wantStatus(t, call(t, c), 200)
	}
	began := time.Now()
	p.server.Set(testserver.Behaviour{Status: 500})
	for range 5 {
		wantStatus(t, call(t, c), 500)
	}
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Reason != "failureRate" || opened.Value != 0.5 || opened.Threshold != 0.5 {
		t.Errorf("opened by %+v; want failureRate 0.5", opened)
	}
	wantAnswer(t, call(t, c), "open")
}
