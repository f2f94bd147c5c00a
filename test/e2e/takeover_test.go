package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// streams is a backend of HTTP/2 in clear text, with an agent between it and its client.
type streams struct {
	*netlab.Star
	t      *testing.T
	at     netip.AddrPort
	agent  *agenttest.Agent
	socket string

	mu       sync.Mutex
	received map[string]bool // calls that the backend has received
	status   int             // of its responses; 0 = 200
}

var oneBackend = netlab.Options{Backends: 1}

// newStreams makes a network with a backend that answers a call with size bytes after a delay, or when release is closed.
func newStreams(t *testing.T, o netlab.Options, size int, delay time.Duration, release <-chan struct{}, keys ...string) *streams {
	t.Helper()
	s := &streams{
		Star: newStar(t, o), t: t, received: map[string]bool{}, socket: filepath.Join(t.TempDir(), "cb.sock"),
	}
	s.at = netip.AddrPortFrom(s.Backends[0].IPv4, port)
	body := bytes.Repeat([]byte("b"), size)
	server := &http.Server{Protocols: clearHTTP2(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.received[r.URL.Query().Get("id")] = true
		status := s.status
		s.mu.Unlock()
		if r.URL.Path == "/slow" {
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		time.Sleep(delay)
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(body) // the client says what it got
	})}
	l, err := s.Backends[0].Listen(s.at)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	s.agent = startAgent(t, s.Node, policyOf([]netip.AddrPort{s.at}, keys...), []string{"be*", "cl*"}, "--control-socket", s.socket)
	return s
}

func clearHTTP2() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// client returns a client with one connection.
func (s *streams) client() *http.Client {
	tr := &http.Transport{DialContext: s.Client.DialContext, Protocols: clearHTTP2()}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Second}
}

// got is what a client got for a call.
type got struct {
	id     string
	status int
	reason string // of the kernel's answer, empty if the backend answered
	body   []byte
	err    error
	took   time.Duration
}

func (g got) String() string {
	return fmt.Sprintf("%s: status %d, kernel %q, %d bytes, after %s: %v", g.id, g.status, g.reason, len(g.body), g.took, g.err)
}

func (s *streams) call(c *http.Client, path, id string) (g got) {
	g.id = id
	began := time.Now()
	resp, err := c.Get(fmt.Sprintf("http://%s%s?id=%s", s.at, path, url.QueryEscape(id)))
	if err == nil {
		g.status, g.reason = resp.StatusCode, resp.Header.Get("X-Cbagent-Reason")
		g.body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	g.err, g.took = err, time.Since(began)
	return g
}

// override has an operator open or close the circuit.
func (s *streams) override(action string) {
	s.t.Helper()
	c := control.NewClient(s.socket)
	defer c.Close()
	if _, err := c.Override(soon(s.t), control.Override{Action: action, Target: "test", Reason: "a test"}); err != nil {
		s.t.Fatal(err)
	}
}

// load calls from several workers on one connection until stop is called.
type load struct {
	mu      sync.Mutex
	results []got
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

func (s *streams) load(workers int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	s.t.Cleanup(l.stop)
	c := s.client()
	for w := range workers {
		l.workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				g := s.call(c, "/", fmt.Sprintf("%d-%d", w, i))
				l.mu.Lock()
				l.results = append(l.results, g)
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) stop() {
	l.cancel()
	l.workers.Wait()
}

// outcomes returns the number of results of each kind.
func (l *load) outcomes() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]int{}
	for _, g := range l.results {
		all[fmt.Sprintf("%d %s %v", g.status, g.reason, g.err)]++
	}
	return all
}

// count returns how many of the results since the first n are as wanted.
func (l *load) count(n int, as func(got) bool) (count, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.results[n:] {
		if as(g) {
			count++
		}
	}
	return count, len(l.results)
}

func fromBackend(g got) bool { return g.err == nil && g.status == 200 && g.reason == "" }
func fromKernel(g got) bool  { return g.err == nil && g.status == 503 && g.reason == "forced-open" }

// The circuit opens and closes under load, again and again: each call that the backend received is answered by it, all
// others by the kernel.
func TestOpenHTTP2ConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size  int
		delay time.Duration
		link  netlab.Impairment // of the client's link
	}{
		"3 kB":       {size: 3000},
		"300 kB":     {size: 300_000},
		"10 ms":      {size: 3000, delay: 10 * time.Millisecond},
		"reordered":  {3000, 10 * time.Millisecond, netlab.Impairment{Reorder: 0.1}},
		"duplicated": {3000, 10 * time.Millisecond, netlab.Impairment{Duplicate: 0.2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := oneBackend
			o.ClientRelay = c.link != netlab.Impairment{}
			s := newStreams(t, o, c.size, c.delay, nil, "trip: [{consecutiveFailures: 1000}]")
			if o.ClientRelay {
				defer impair(t, c.link, s.ClientRelay)()
			}
			l := s.load(16)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("clients got %v", l.outcomes())
				}
			})
			for range 5 {
				_, from := l.count(0, fromBackend)
				eventually(t, "calls succeed", func() bool { n, _ := l.count(from, fromBackend); return n >= 200 })
				s.override("open")
				_, from = l.count(0, fromKernel)
				eventually(t, "calls are rejected", func() bool { n, _ := l.count(from, fromKernel); return n >= 200 })
				s.override("close")
			}
			l.stop()
			var lost, slow int
			for _, g := range l.results {
				if received := s.received[g.id]; received != fromBackend(g) || received == fromKernel(g) {
					lost++
					t.Logf("received by the backend: %t; the client got %s", received, g)
				}
				if g.took > time.Second {
					slow++
				}
			}
			t.Logf("%d calls, %d took more than a second", len(l.results), slow)
			if lost > 0 {
				t.Errorf("%d of %d calls were lost", lost, len(l.results))
			}
			if c.delay > 0 && s.withheld() == 0 {
				t.Error("no packet was withheld")
			}
		})
	}
}

// has returns whether the backend has received a call.
func (s *streams) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received[id]
}

// withheld returns how many packets were withheld.
func (s *streams) withheld() float64 {
	n, _ := metric(s.t, s.Node, "cbagent_packets_total", `reason="withheld"`)
	return n
}

// slow begins a call that ends when its response is released, and waits until the backend has it.
func (s *streams) slow(c *http.Client) <-chan got {
	s.t.Helper()
	result := make(chan got, 1)
	go func() { result <- s.call(c, "/slow", "slow") }()
	eventually(s.t, "the backend has the slow call", func() bool { return s.has("slow") })
	return result
}

// A new call beside one in flight waits: for a circuit that closes again, then both reach the backend.
func TestCircuitClosesWhileStreamsAreWithheld(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newStreams(t, oneBackend, 300_000, 0, release, "trip: [{consecutiveFailures: 1000}]")
	c := s.client()
	slow := s.slow(c)
	s.override("open")
	second := make(chan got, 1)
	go func() { second <- s.call(c, "/", "second") }()
	eventually(t, "the second call is withheld", func() bool { return s.withheld() > 0 })
	if s.has("second") {
		t.Error("the backend has the call that is withheld")
	}
	s.override("close")
	if g := <-second; !fromBackend(g) || len(g.body) != 300_000 {
		t.Errorf("the call that was withheld: %s", g)
	}
	close(release)
	if g := <-slow; !fromBackend(g) || len(g.body) != 300_000 {
		t.Errorf("the call in flight: %s", g)
	}
}

// A new call beside one in flight waits for its end, and then gets the kernel's answer.
func TestStreamsInFlightEndBeforeAnAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newStreams(t, oneBackend, 300_000, 0, release, "trip: [{consecutiveFailures: 1000}]")
	c := s.client()
	slow := s.slow(c)
	s.override("open")
	second := make(chan got, 1)
	go func() { second <- s.call(c, "/", "second") }()
	eventually(t, "the second call is withheld", func() bool { return s.withheld() > 0 })
	close(release)
	if g := <-slow; !fromBackend(g) || len(g.body) != 300_000 {
		t.Errorf("the call in flight: %s", g)
	}
	if g := <-second; !fromKernel(g) || string(g.body) != defaultBody("forced-open") {
		t.Errorf("the call that was withheld: %s, body %q", g, g.body)
	}
	if s.has("second") {
		t.Error("the backend has got the call that was rejected")
	}
}

// A call in flight that does not end is lost after the grace, and the new one gets the kernel's answer.
func TestStreamsInFlightAreLostAfterTheGrace(t *testing.T) {
	t.Parallel()
	s := newStreams(t, oneBackend, 10, 0, nil, "trip: [{consecutiveFailures: 1000}]")
	c := s.client()
	slow := s.slow(c)
	s.override("open")
	if g := s.call(c, "/", "second"); !fromKernel(g) || g.took < time.Second {
		t.Errorf("the new call: %s; want the kernel's answer after a second", g)
	}
	if g := <-slow; g.err == nil {
		t.Errorf("the call in flight: %s; want an error", g)
	}
}

// One client with one connection and one call after another closes a circuit, and none of its calls fails.
func TestOneHTTP2ClientClosesACircuit(t *testing.T) {
	t.Parallel()
	s := newStreams(t, oneBackend, 100, 0, nil, "trip: [{consecutiveFailures: 3}]", "open: {duration: 500ms}", "halfOpen: {calls: 3, timeout: 1m}")
	c := s.client()
	began := time.Now()
	s.mu.Lock()
	s.status = 500
	s.mu.Unlock()
	for i := range 3 {
		if g := s.call(c, "/", fmt.Sprint("failing ", i)); g.status != 500 || g.reason != "" {
			t.Fatalf("a failing call: %s", g)
		}
	}
	opened, err := s.agent.Await(soon(t), s.at.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.status = 0
	s.mu.Unlock()
	rejected, admitted := 0, 0
	for i := 0; admitted < 10; i++ {
		g := s.call(c, "/", fmt.Sprint(i))
		switch {
		case fromBackend(g):
			admitted++
		case g.err == nil && g.status == 503 && g.reason == "open" && admitted == 0:
			rejected++
		default:
			t.Fatalf("after %d calls that were admitted: %s", admitted, g)
		}
	}
	if rejected == 0 {
		t.Error("no call was rejected")
	}
	if _, err := s.agent.Await(soon(t), s.at.String(), "closed", opened.At); err != nil {
		t.Error(err)
	}
	if probes, _ := metric(t, s.Node, "cbagent_probe_permits_total"); probes != 3 {
		t.Errorf("%v probes, want 3", probes)
	}
}
