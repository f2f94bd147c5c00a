package wire

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// local returns a free port of loopback.
func local(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return netip.MustParseAddrPort(l.Addr().String())
}

// start serves on loopback until the test ends.
func start(t *testing.T) netip.AddrPort {
	t.Helper()
	return startWith(t, Listen)
}

// startWith serves on loopback, on a port that listen opens.
func startWith(t *testing.T, listen func(netip.AddrPort) (*Server, error)) netip.AddrPort {
	t.Helper()
	at := local(t)
	s, err := listen(at)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return at
}

func TestLoadCountsWhatTheServerAnswers(t *testing.T) {
	at := start(t)
	for name, keep := range map[string]bool{"kept": true, "new": false} {
		t.Run(name, func(t *testing.T) {
			r, err := Load{Target: at, Clients: 4, For: 10 * time.Second, Requests: 200, KeepOpen: keep}.Run()
			if err != nil {
				t.Fatal(err)
			}
			connections := map[bool]int{true: 4, false: 200}[keep]
			if r.Requests != 200 || r.ByStatus[200] != 200 || r.Failed() != 0 || r.Connected > connections || r.Connected < 1 {
				t.Errorf("got %+v, want 200 answers over at most %d connections", r, connections)
			}
			if !keep && r.Connected != connections {
				t.Errorf("%d connections, want one for each request", r.Connected)
			}
			if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 {
				t.Errorf("percentiles %s, %s, %s", r.P50, r.P99, r.P999)
			}
		})
	}
}

func TestLoadSeesRefusal(t *testing.T) {
	r, err := Load{Target: local(t), Clients: 2, For: 10 * time.Second, Requests: 20, Connect: true}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors["ECONNREFUSED"] != 20 || r.Requests != 20 || r.Connected != 0 {
		t.Errorf("got %+v, want 20 rejections", r)
	}
}

// Another server's answers: a head in several pieces, a Connection: close, lower case.
func TestLoadReadsOtherServers(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			_, _ = c.Read(buffer)
			for _, piece := range []string{"HTTP/1.1 50", "3 No\r\ncontent-length: 4\r\nConnection: close\r", "\n\r\nab", "cd"} {
				_, _ = c.Write([]byte(piece))
			}
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close() }()
	r, err := Load{Target: netip.MustParseAddrPort(l.Addr().String()), Clients: 1, For: 10 * time.Second, Requests: 10, KeepOpen: true}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.ByStatus[503] != 10 || r.Connected != 10 {
		t.Errorf("got %+v, want ten 503 on ten connections", r)
	}
}

// Another client reads our server's answers.
func TestServerSpeaksHTTP(t *testing.T) {
	at := start(t)
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get("http://" + at.String() + "/any?" + strings.Repeat("x", 3000))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || resp.ContentLength != 100 {
			t.Errorf("got %d with %d bytes", resp.StatusCode, resp.ContentLength)
		}
	}
}
