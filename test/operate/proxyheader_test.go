package operate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

const proxyHeader = "PROXY TCP4 192.0.2.10 198.51.100.7 40000 8080\r\n"

// proxyServer is an HTTP server that wants a PROXY header on each connection.
func proxyServer(t *testing.T, listen testserver.Listen, at netip.AddrPort) *testserver.Server {
	t.Helper()
	server, err := testserver.New(func(at netip.AddrPort) (net.Listener, error) {
		l, err := listen(at)
		return proxyListener{l}, err
	}, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

type proxyListener struct{ net.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headedConn{Conn: c, reader: bufio.NewReader(c)}, nil
}

// headedConn reads what comes after the header.
type headedConn struct {
	net.Conn
	reader *bufio.Reader
	past   bool
}

func (c *headedConn) Read(b []byte) (int, error) {
	if !c.past {
		line, err := c.reader.ReadString('\n')
		if err == nil && line != proxyHeader {
			err = fmt.Errorf("connection begins with %q", line)
		}
		if err != nil {
			return 0, err
		}
		c.past = true
	}
	return c.reader.Read(b)
}

// headerAlone connects and sends the header in a segment of its own.
func headerAlone(dial loadgen.Dial) loadgen.Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		_, err = io.WriteString(c, proxyHeader)
		return c, err
	}
}

// headerAhead connects so that the header goes ahead of the request in one segment.
func headerAhead(dial loadgen.Dial) loadgen.Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &heading{Conn: c}, err
	}
}

type heading struct {
	net.Conn
	done bool
}

func (c *heading) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	n, err := c.Conn.Write(append([]byte(proxyHeader), b...))
	return max(0, n-len(proxyHeader)), err
}

// Requests behind a PROXY header are observed, and get the kernel's answer while the circuit is open.
func TestPROXYHeader(t *testing.T) {
	keys := []string{"trip: [{consecutiveFailures: 3}]", "open: {duration: 5m, max: 5m}"}
	s := newStage(t, 1, keys)
	at := netip.AddrPortFrom(s.Backends[0].IPv4, 8081)
	server := proxyServer(t, s.Backends[0].Listen, at)
	s.follow(at, keys...)
	client := func(dial loadgen.Dial) *loadgen.Client {
		c := &loadgen.Client{Dial: dial, Target: at, Timeout: patience}
		t.Cleanup(c.Close)
		return c
	}
	call := func(c *loadgen.Client, status int) {
		t.Helper()
		r := c.Do(soon(t), loadgen.Request{})
		if _, kernel := r.FromKernel(); r.Status != status || kernel {
			t.Fatalf("got %s (of the kernel: %v), %v; want %d of the backend", r.Outcome(), kernel, r.Err, status)
		}
	}
	kept, other := client(headerAlone(s.Client.DialContext)), client(headerAhead(s.Client.DialContext))
	for range 3 {
		call(kept, 200)
		call(other, 200)
	}
	began := time.Now()
	server.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		call(kept, 500)
	}
	if _, err := s.agent.Await(soon(t), at.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*loadgen.Client{
		"kept": kept, "new, header and request in one segment": client(headerAhead(s.Client.DialContext)),
	} {
		r := c.Do(soon(t), loadgen.Request{})
		reason, kernel := r.FromKernel()
		if r.Status != 503 || !kernel || reason != "open" || string(r.Body) != `{"error":"circuit open"}` {
			t.Errorf("%s: got %s (of the kernel: %v %q) with body %q, %v", name, r.Outcome(), kernel, reason, r.Body, r.Err)
		}
	}
	if r := client(headerAlone(s.Client.DialContext)).Do(soon(t), loadgen.Request{}); r.Class != loadgen.Reset {
		t.Errorf("new, the header alone: got %s, %v; want a reset", r.Outcome(), r.Err)
	}
	got := s.scrape()
	for name, n := range map[string]float64{
		"cbagent_admitted_total{}": 9, `cbagent_outcomes_total{outcome="2xx"}`: 6, `cbagent_outcomes_total{outcome="5xx"}`: 3,
		`cbagent_other_protocol_connections_total{protocol="proxy"}`: 2,
	} {
		name, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		if have := got.of(name, at, labels); have != n {
			t.Errorf("%s{%s}: %g, want %g", name, labels, have, n)
		}
	}
	if status, _, _ := s.run("status"); strings.Contains(status, "no request") {
		t.Errorf("status says\n%s", status)
	}
}
