package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// closer is a backend that closes its connections when it is told to, by FIN or by RST.
type closer struct {
	reset   bool
	answers int // how many requests a connection has answered; what comes after is not read

	mu   sync.Mutex
	open []net.Conn
}

func (s *closer) serve(c net.Conn) {
	s.mu.Lock()
	s.open = append(s.open, c)
	s.mu.Unlock()
	r := bufio.NewReader(c)
	for range s.answers {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, noContent)
	}
}

// closeAll closes the connections that are open.
func (s *closer) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		if s.reset {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	s.open = nil
}

// holding delays segments of a direction that a function chooses, and counts them.
func holding(d *netlab.Direction, choose func(netlab.Segment) bool) *atomic.Int64 {
	var held atomic.Int64
	d.SetHook(func(frame []byte) netlab.Fate {
		s, ok := netlab.ParseSegment(frame)
		if !ok || !choose(s) {
			return netlab.Fate{}
		}
		held.Add(1)
		return netlab.Fate{Delay: 300 * time.Millisecond}
	})
	return &held
}

// TestRequestsThatCrossAClose: the backend closes idle connections while requests are on their way to it, or the requests
// are sent while its FIN or RST is on its way. Nobody failed. On connections that never answered, the backend did.
func TestRequestsThatCrossAClose(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{true, false} {
		for _, reset := range []bool{false, true} {
			for _, request := range []bool{false, true} {
				t.Run(fmt.Sprintf("used=%v reset=%v request on its way=%v", used, reset, request), func(t *testing.T) {
					t.Parallel()
					s := &closer{reset: reset}
					if used {
						s.answers = 1
					}
					testRaced(t, s, request)
				})
			}
		}
	}
}

func testRaced(t *testing.T, s *closer, request bool) {
	const clients = 10
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	p := rawPlace(t, s.serve)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	began := time.Now()
	open := make([]net.Conn, clients)
	for i := range open {
		open[i] = dial(t, p.place)
		for range s.answers {
			sendAll(t, open[i], get)
			if _, err := io.ReadFull(open[i], make([]byte, len(noContent))); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all connections are accepted", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open) == clients
	})
	ask := func() {
		for _, c := range open {
			sendAll(t, c, get)
		}
	}
	if request {
		requests := holding(p.backends.Forward, func(s netlab.Segment) bool { return len(s.Payload) > 0 })
		ask()
		eventually(t, "the requests are on their way", func() bool { return requests.Load() >= clients })
		s.closeAll()
	} else {
		ends := holding(p.backends.Backward, func(s netlab.Segment) bool { return s.Flags&(netlab.FIN|netlab.RST) != 0 })
		s.closeAll()
		eventually(t, "the backend's ends are on their way", func() bool { return ends.Load() >= clients })
		ask()
	}
	for _, c := range open {
		_, _ = io.Copy(io.Discard, c) // a reset, or none where the client saw the FIN first
	}
	admitted := float64(clients * (1 + s.answers))
	if s.answers == 0 {
		if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
			t.Fatal(err)
		}
		wantMetric(t, p.place, admitted, "cbagent_outcomes_total", `outcome="reset"`)
		return
	}
	eventually(t, "all outcomes are counted", func() bool {
		n, _ := metric(t, p.node, "cbagent_outcomes_total")
		return n == admitted
	})
	wantMetric(t, p.place, 0, "cbagent_requests_in_flight")
	for outcome, want := range map[string]float64{"2xx": clients, "raced": clients} {
		if got, _ := metric(t, p.node, "cbagent_outcomes_total", fmt.Sprintf("outcome=%q", outcome)); got != want {
			t.Errorf("%v outcomes are %s, want %v", got, outcome, want)
		}
	}
	if got := agent.Transitions(); len(got) > 0 {
		t.Errorf("transitions %+v of what nobody did wrong", got)
	}
}

// TestRequestsThatTheBackendTookFail: a backend that closes after it has read a request has failed.
func TestRequestsThatTheBackendTookFail(t *testing.T) {
	t.Parallel()
	p := rawPlace(t, func(c net.Conn) {
		defer func() { _ = c.Close() }()
		r := bufio.NewReader(c)
		for n := range 2 {
			if _, err := http.ReadRequest(r); err != nil || n == 1 {
				return
			}
			_, _ = io.WriteString(c, noContent)
		}
	})
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	began := time.Now()
	var open []net.Conn
	for range 3 {
		open = append(open, dial(t, p.place))
	}
	for range 2 {
		for _, c := range open {
			sendAll(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, _ = io.ReadFull(c, make([]byte, len(noContent))) // the second request has no response
		}
	}
	if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, p.place, 3, "cbagent_outcomes_total", `outcome="reset"`)
}
