package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// live returns how many connections of a port have not ended in a namespace, but for those that wait for late packets.
func live(t *testing.T, in *netlab.Namespace, port uint16) int {
	t.Helper()
	const timeWait, listening = "06", "0A"
	return sockets(t, in, port, func(state string) bool { return state != timeWait && state != listening })
}

// established returns how many connections to a port are open in a namespace.
func established(t *testing.T, in *netlab.Namespace, port uint16) int {
	t.Helper()
	return sockets(t, in, port, func(state string) bool { return state == "01" })
}

// sockets returns how many sockets of a port are in some states in a namespace.
func sockets(t *testing.T, in *netlab.Namespace, port uint16, match func(state string) bool) int {
	t.Helper()
	n := 0
	err := in.Do(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			table, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(table)) {
				f := strings.Fields(line)
				if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && match(f[3]) {
					n++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPostOfEightMegabytes: a client whose request is rejected lives to read why, however long the request, and the
// backend is left with nothing.
func TestPostOfEightMegabytes(t *testing.T) {
	t.Parallel()
	post := loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(8 << 20)}
	for name, newPlace := range map[string]func(*testing.T) place{
		"IPv4": places["IPv4"], "IPv6": places["IPv6"], "DNAT and masquerade": places["DNAT and masquerade"], "lo": places["lo"],
		"VXLAN": places["VXLAN"], "TUN offload": places["TUN offload"], "QinQ pods": places["QinQ pods"],
		"MTU 9000": places["MTU 9000"], "no offloads": places["no offloads"], "GRO": places["GRO"], "inbound": inboundPlaces["pod"], "inbound to the node IPv6": inboundPlaces["node IPv6"],
		"VIP": vipPlaces["VIP"], "VIP, masqueraded IPv6": vipPlaces["VIP, masqueraded IPv6"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(p.policy, threeFailures...)...), p.interfaces)
			kept := make([]*loadgen.Client, 3)
			for i := range kept {
				kept[i] = client(t, p.client, p.dial)
				wantStatus(t, call(t, kept[i]), 200)
			}
			failing := client(t, p.client, p.backend)
			openCircuit(t, agent, p.server, failing)
			failing.Close()
			before := p.server.Counts()
			for _, c := range append(kept, client(t, p.client, p.dial), client(t, p.client, p.dial)) {
				c.Timeout = patience
				wantAnswer(t, c.Do(soon(t), post), "open")
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.BodyBytes != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
			eventually(t, "nothing is open at the backend", func() bool { return established(t, p.home, p.backend.Port()) == 0 })

			neighbour := client(t, p.client, p.neighbour)
			neighbour.Timeout = patience
			wantStatus(t, neighbour.Do(soon(t), post), 200)
			if got := p.other.Counts().BodyBytes; got != 8<<20 {
				t.Errorf("the neighbour read %d bytes, want 8 MiB", got)
			}
		})
	}
}

// TestLostAnswerIsGivenAgain loses the kernel's first packets with an answer: clients get it all the same.
func TestLostAnswerIsGivenAgain(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]loadgen.Request{
		"GET":  {},
		"POST": {Method: "POST", Body: testserver.FakeTraffic(1 << 20)},
	} {
		for _, existing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s open=%v", name, existing), func(t *testing.T) {
				t.Parallel()
				p := relayPlace(t)
				idle := openAt(t, p.place)
				c := client(t, p.client, p.dial)
				if existing {
					c = idle[0]
				}
				loseData(p.clients.Backward, 2)
				before := p.server.Counts()
				c.Timeout = patience
				wantAnswer(t, c.Do(soon(t), request), "open")
				if got := p.server.Counts().Sub(before); got.Requests != 0 {
					t.Errorf("the backend saw %+v", got)
				}
				if got := p.clients.Backward.Counts().Lost; got != 2 {
					t.Errorf("%d answers were lost, want 2", got)
				}
			})
		}
	}
}

// TestAnswersUnderLoss loses a twentieth of all packets between clients and the node, in both directions.
func TestAnswersUnderLoss(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"IPv4", "client without timestamps"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := opened(t, name)
			nft(t, p.client, `table inet lossy {
				chain in { type filter hook input priority 0; numgen random mod 20 < 1 drop; }
				chain out { type filter hook output priority 0; numgen random mod 20 < 1 drop; }
			}`)
			before := p.server.Counts()
			var tally loadgen.Tally
			load := loadgen.Load{
				Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 96, Requests: 192, Every: 1, Timeout: time.Minute,
				Request: loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(20000)}, Done: tally.Done,
			}
			if err := load.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := tally.Counts(); got.FromKernel["open"] != 192 {
				t.Errorf("clients got %v, %v of them from the kernel; want nothing else", got.ByOutcome, got.FromKernel)
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
		})
	}
}

// TestAnswerLongerThanTheClientTakes: a client who could not take the answer in one segment gets a reset, and one who
// can gets the answer.
func TestAnswerLongerThanTheClientTakes(t *testing.T) {
	t.Parallel()
	const body = 900
	p := places["IPv4"](t)
	if err := p.client.MTU("eth0", 576); err != nil {
		t.Fatal(err)
	}
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(threeFailures,
		fmt.Sprintf("reject: {contentType: text/plain, body: %s}", strings.Repeat("x", body)))...), p.interfaces)
	small, roomy := client(t, p.client, p.dial), client(t, p.node, p.dial)
	wantStatus(t, call(t, small), 200)
	wantStatus(t, call(t, roomy), 200)
	before := p.server.Counts()
	openCircuit(t, agent, p.server, client(t, p.node, p.dial))
	if r := call(t, small); r.Class != loadgen.Reset {
		t.Errorf("open connection: got %s, %v; want a reset", r.Outcome(), r.Err)
	}
	if r := call(t, small); r.Class != loadgen.ConnectRefused {
		t.Errorf("new connection: got %s, %v; want ECONNREFUSED", r.Outcome(), r.Err)
	}
	for range 2 {
		if r := call(t, roomy); r.Status != 503 || len(r.Body) != body {
			t.Errorf("who can take it: got %s with %d bytes, %v; want 503 with %d", r.Outcome(), len(r.Body), r.Err, body)
		}
	}
	if got := p.server.Counts().Sub(before); got.Requests != 3 {
		t.Errorf("the backend saw %d requests, want the three that failed", got.Requests)
	}
	eventually(t, "one connection is open at the backend", func() bool { return established(t, p.home, port) == 1 })
}

// TestRequestThatBeganBeforeIsNotCut: a request whose first bytes were admitted goes on to its end, however slow it is, and
// although what follows looks like another. After "P" alone it could still be HTTP/2.
func TestRequestThatBeganBeforeIsNotCut(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	slow, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	parts := []string{"PO", "ST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", "Content-Length: 32\r\n\r\n", "GET / HTTP/1.1\r\n", "HEAD / HTTP/1.1\r"}
	send := func(s string) {
		t.Helper()
		if _, err := slow.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	send(parts[0])
	eventually(t, "the first bytes are there", func() bool { return unread(t, p.home, slow.LocalAddr().String()) })
	idle := client(t, p.client, p.dial)
	wantStatus(t, call(t, idle), 200)
	openCircuit(t, agent, p.server, client(t, p.client, p.dial))
	wantAnswer(t, call(t, idle), "open")
	p.server.Set(testserver.Behaviour{Body: []byte("at last")})
	before := p.server.Counts()
	for _, s := range parts[1 : len(parts)-1] {
		send(s)
	}
	got := exchange(t, slow, parts[len(parts)-1]+"\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "at last") {
		t.Errorf("got %q, want the backend's 200", got)
	}
	if c := p.server.Counts().Sub(before); c.Requests != 1 || c.BodyBytes != 32 {
		t.Errorf("the backend saw %+v, want one request with 32 bytes", c)
	}
	wantAnswer(t, call(t, idle), "open")
}

// unread reports whether a connection from an address has come to be in a namespace.
func unread(t *testing.T, in *netlab.Namespace, from string) bool {
	t.Helper()
	at := netip.MustParseAddrPort(from)
	found := false
	err := in.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			found = found || len(f) > 3 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", at.Port()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFirstByteIsEnough: on an open connection too a request is rejected by its first byte.
func TestFirstByteIsEnough(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"IPv4", "IPv6", "lo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places[name](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
			kept, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = kept.Close() }()
			const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
			if _, err := kept.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			want := "HTTP/1.1 200 OK\r\n"
			first := make([]byte, 4096)
			n, err := kept.Read(first)
			if err != nil || !strings.HasPrefix(string(first[:n]), want) {
				t.Fatalf("got %q, %v; want %q", first[:n], err, want)
			}
			openCircuit(t, agent, p.server, client(t, p.client, p.dial))
			before := p.server.Counts()
			// What comes after the first byte may meet a connection that has ended: that is no error.
			if _, err := kept.Write([]byte(request[:1])); err != nil {
				t.Fatal(err)
			}
			got := rest(t, kept)
			if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasSuffix(got, `{"error":"circuit open"}`) {
				t.Errorf("got %q, want the kernel's whole 503", got)
			}
			if _, err := kept.Write([]byte(request[1:])); err != nil {
				t.Errorf("the rest of the request: %v", err)
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 {
				t.Errorf("the backend saw %+v", got)
			}
			neighbour := client(t, p.client, p.neighbour)
			wantStatus(t, call(t, neighbour), 200)
		})
	}
}

// TestDropTimesOut: clients of a policy that drops wait until their own kernel gives up.
func TestDropTimesOut(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"IPv4", "IPv6", "lo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places[name](t)
			set(t, p.client, "net.ipv4.tcp_syn_retries", "1")
			set(t, p.client, "net.ipv4.tcp_syn_linear_timeouts", "0")
			startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: forced-open", "reject: {with: drop}"), p.interfaces)
			c := client(t, p.client, p.dial)
			c.Timeout = patience
			if r := call(t, c); r.Class != loadgen.ConnectTimeout || r.Connect > patience/2 {
				t.Errorf("got %s after %s, %v; want its own kernel's timeout", r.Outcome(), r.Connect, r.Err)
			}
			if got := p.server.Counts(); got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
			wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
		})
	}
}

// TestRawConnections: a policy that does not look into connections rejects new ones, and open ones if it is told to.
func TestRawConnections(t *testing.T) {
	t.Parallel()
	for _, existing := range []bool{false, true} {
		t.Run(fmt.Sprintf("existing=%v", existing), func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
				append(threeFailures, "protocol: tcp", fmt.Sprintf("reject: {existing: %v}", existing))...), p.interfaces)
			kept := client(t, p.client, p.dial)
			wantStatus(t, call(t, kept), 200)
			p.server.Set(testserver.Behaviour{Status: 500})
			for range 5 {
				wantStatus(t, call(t, kept), 500) // nobody looks
			}
			refuse(t, p)
			failThrice(t, p, agent, "connect-refused")
			if err := p.server.Accept(); err != nil {
				t.Fatal(err)
			}
			before := p.server.Counts()
			if r := call(t, client(t, p.client, p.dial)); r.Class != loadgen.ConnectRefused {
				t.Errorf("new connection: got %s, %v; want ECONNREFUSED", r.Outcome(), r.Err)
			}
			r := call(t, kept)
			if existing && r.Class != loadgen.Reset || !existing && r.Status != 500 {
				t.Errorf("open connection: got %s, %v", r.Outcome(), r.Err)
			}
			if got := p.server.Counts().Sub(before); got.Connections != 0 || (got.Requests == 0) != existing {
				t.Errorf("the backend saw %+v", got)
			}
			if existing {
				eventually(t, "nothing is open at the backend", func() bool { return established(t, p.home, port) == 0 })
			}
			wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
		})
	}
}
