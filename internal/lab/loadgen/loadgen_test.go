package loadgen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

var dialer net.Dialer

// newServer starts a server on a free port of the loopback interface.
func newServer(t *testing.T) (*testserver.Server, netip.AddrPort) {
	t.Helper()
	var at netip.AddrPort
	s, err := testserver.New(func(netip.AddrPort) (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			at = netip.MustParseAddrPort(l.Addr().String())
		}
		return l, err
	}, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, at
}

func newClient(t *testing.T, target netip.AddrPort) *Client {
	c := &Client{Dial: dialer.DialContext, Target: target}
	t.Cleanup(c.Close)
	return c
}

func TestClientKeepsItsConnection(t *testing.T) {
	s, at := newServer(t)
	c := newClient(t, at)
	s.Set(testserver.Behaviour{Status: 503, Body: []byte("no"), Interim: []int{103}})
	for i := range 3 {
		r := c.Do(context.Background(), Request{Method: "POST", Body: testserver.FakeTraffic(1 << 20)})
		if r.Status != 503 || string(r.Body) != "no" || r.Class != Answered || r.Outcome() != "503" {
			t.Fatalf("got %d %q %q, %v", r.Status, r.Body, r.Class, r.Err)
		}
		if r.Reused != (i > 0) || (r.Connect == 0) != (i > 0) {
			t.Errorf("request %d: reused %v, connected in %s", i, r.Reused, r.Connect)
		}
	}
	if r := c.Do(context.Background(), Request{Method: "HEAD", Close: true}); r.Status != 503 || len(r.Body) != 0 {
		t.Errorf("HEAD: got %d with %d bytes, want 503 with none", r.Status, len(r.Body))
	}
	if r := c.Do(context.Background(), Request{}); r.Reused || r.Status != 503 {
		t.Errorf("after Close: got %d, reused %v; want 503 on a new connection", r.Status, r.Reused)
	}
	want := testserver.Counts{Connections: 2, Requests: 5, ByStatus: map[int]uint64{503: 5}, BodyBytes: 3 << 20}
	if got := s.Counts(); !reflect.DeepEqual(got, want) {
		t.Errorf("server counts %+v, want %+v", got, want)
	}
}

func TestClientRepeatsNothing(t *testing.T) {
	s, at := newServer(t)
	for ending, want := range map[testserver.Ending]Class{
		testserver.EndReset:        Reset,
		testserver.EndResetMidHead: Reset,
		testserver.EndClose:        Closed,
		testserver.EndHang:         Timeout,
	} {
		s.Set(testserver.Behaviour{})
		c := newClient(t, at)
		c.Timeout = 100 * time.Millisecond
		if r := c.Do(context.Background(), Request{}); r.Status != 200 {
			t.Fatal(r.Err)
		}
		before := s.Counts()
		s.Set(testserver.Behaviour{Ending: ending})
		r := c.Do(context.Background(), Request{})
		if r.Class != want || r.Err == nil || r.Status != 0 || r.Outcome() != string(want) {
			t.Errorf("ending %d: got %q, %v; want %q", ending, r.Class, r.Err, want)
		}
		if got := s.Counts().Sub(before).Requests; got != 1 {
			t.Errorf("ending %d: the server saw %d requests, want 1", ending, got)
		}
	}
	if err := s.Refuse(); err != nil {
		t.Fatal(err)
	}
	if r := newClient(t, at).Do(context.Background(), Request{}); r.Class != ConnectRefused {
		t.Errorf("closed port: got %q, %v; want %q", r.Class, r.Err, ConnectRefused)
	}
}

func TestClientConnectTimeout(t *testing.T) {
	c := &Client{Timeout: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}}
	if r := c.Do(context.Background(), Request{}); r.Class != ConnectTimeout {
		t.Errorf("got %q, %v; want %q", r.Class, r.Err, ConnectTimeout)
	}
}

func TestClientCancelled(t *testing.T) {
	s, at := newServer(t)
	s.Set(testserver.Behaviour{Ending: testserver.EndHang})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for s.Counts().Hung == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if r := newClient(t, at).Do(ctx, Request{}); r.Class != Failed || !errors.Is(r.Err, context.Canceled) {
		t.Errorf("got %q, %v; want %q", r.Class, r.Err, Failed)
	}
}

// A server that answers before it has read the body, and then resets: what it said still counts.
func TestClientReadsTheAnswerWhenItsWriteFails(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = bufio.NewReader(far).ReadString('\n')
		_, _ = io.WriteString(far, "HTTP/1.1 503 No\r\nServer: cbagent\r\nX-Cbagent-Reason: open\r\nContent-Length: 0\r\n\r\n")
		_ = far.Close()
	}()
	c := &Client{Dial: func(context.Context, string, string) (net.Conn, error) { return halfBroken{near}, nil }}
	r := c.Do(context.Background(), Request{})
	if reason, ok := r.FromKernel(); r.Status != 503 || !ok || reason != "open" {
		t.Errorf("got %d, %q, %v; want the kernel's 503", r.Status, r.Class, r.Err)
	}
	if c.conn != nil {
		t.Error("the connection was kept although the write had failed")
	}
}

// halfBroken passes writes on and says that they failed.
type halfBroken struct{ net.Conn }

func (c halfBroken) Write(b []byte) (int, error) {
	_, _ = c.Conn.Write(b)
	return 0, errors.New("broken pipe")
}

func TestLoadCountsAsTheServerDoes(t *testing.T) {
	for name, every := range map[string]int{"kept": 0, "new": 1, "some": 3} {
		t.Run(name, func(t *testing.T) {
			one, at1 := newServer(t)
			two, at2 := newServer(t)
			one.SetDecide(testserver.Cycle(
				testserver.Part{Behaviour: testserver.Behaviour{}, Times: 3},
				testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 1},
				testserver.Part{Behaviour: testserver.Behaviour{Ending: testserver.EndReset}, Times: 1},
			))
			var tally Tally
			load := Load{
				Dial: dialer.DialContext, Targets: []netip.AddrPort{at1, at2}, Workers: 4, Requests: 500, Every: every,
				Done: tally.Done,
			}
			if err := load.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			got := tally.Counts()
			want := map[netip.AddrPort]map[string]int{at1: {"200": 300, "500": 100, "reset": 100}, at2: {"200": 500}}
			if !reflect.DeepEqual(got.ByTarget, want) {
				t.Errorf("got %v, want %v", got.ByTarget, want)
			}
			if got.Requests != 1000 || len(got.Latencies) != 900 || len(got.Kernel) != 0 {
				t.Errorf("%d requests, %d latencies, %d of the kernel; want 1000, 900, 0",
					got.Requests, len(got.Latencies), len(got.Kernel))
			}
			if want := int(one.Counts().Connections + two.Counts().Connections); got.Connects != want {
				t.Errorf("%d connections, the servers saw %d", got.Connects, want)
			}
			if every == 1 && got.Connects != 1000 {
				t.Errorf("%d connections for 1000 requests, want one each", got.Connects)
			}
		})
	}
}

func TestLoadIsDueWhateverTheServerDoes(t *testing.T) {
	s, at := newServer(t)
	s.Set(testserver.Behaviour{Delay: 20 * time.Millisecond})
	var mu sync.Mutex
	var due []time.Time
	load := Load{
		Dial: dialer.DialContext, Targets: []netip.AddrPort{at}, Workers: 2, Requests: 20, Rate: 1000,
		Done: func(_ netip.AddrPort, r Result) {
			mu.Lock()
			defer mu.Unlock()
			due = append(due, r.Began)
		},
	}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(due) != 20 {
		t.Fatalf("%d requests, want 20", len(due))
	}
	slices.SortFunc(due, time.Time.Compare)
	for i := range due {
		if want := time.Duration(i) * time.Millisecond; due[i].Sub(due[0]) != want {
			t.Errorf("request %d was due %s after the first, want %s", i, due[i].Sub(due[0]), want)
		}
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	s, at := newServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var done atomic.Int64
	load := Load{
		Dial: dialer.DialContext, Targets: []netip.AddrPort{at}, Workers: 3,
		Next: func() Request {
			if done.Load() == 50 {
				s.Set(testserver.Behaviour{Ending: testserver.EndHang})
			}
			return Request{Path: "/next"}
		},
		Done: func(_ netip.AddrPort, r Result) {
			if r.Status != http.StatusOK {
				t.Errorf("a request cut off was reported: %q, %v", r.Class, r.Err)
			}
			done.Add(1)
		},
	}
	go func() {
		for s.Counts().Hung < 3 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := load.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.Counts(); got.Requests != uint64(done.Load())+got.Hung {
		t.Errorf("%d answers reported, %d hung, the server saw %d requests", done.Load(), got.Hung, got.Requests)
	}
}

func TestLoadRefusesNonsense(t *testing.T) {
	good := Load{Dial: dialer.DialContext, Targets: []netip.AddrPort{{}}, Done: func(netip.AddrPort, Result) {}}
	for name, spoil := range map[string]func(*Load){
		"no dial":       func(l *Load) { l.Dial = nil },
		"no targets":    func(l *Load) { l.Targets = nil },
		"no done":       func(l *Load) { l.Done = nil },
		"negative rate": func(l *Load) { l.Rate = -1 },
	} {
		l := good
		spoil(&l)
		if err := l.Run(context.Background()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTallySeesTheKernel(t *testing.T) {
	var tally Tally
	kernel := Result{Status: 503, Header: http.Header{"Server": {"cbagent"}, "X-Cbagent-Reason": {"half-open"}}, Latency: 5}
	backend := Result{Status: 503, Header: http.Header{}, Latency: 7, Reused: true}
	tally.Done(netip.AddrPort{}, kernel)
	tally.Done(netip.AddrPort{}, backend)
	got := tally.Counts()
	if !maps.Equal(got.FromKernel, map[string]int{"half-open": 1}) || len(got.Kernel) != 1 || len(got.Latencies) != 1 {
		t.Errorf("kernel %v %v, backends %v; want one each", got.FromKernel, got.Kernel, got.Latencies)
	}
	if got.ByOutcome["503"] != 2 || got.Connects != 1 {
		t.Errorf("%v, %d connections; want two 503, one connection", got.ByOutcome, got.Connects)
	}
}

func TestPercentile(t *testing.T) {
	samples := make([]time.Duration, 100)
	for i := range samples {
		samples[i] = time.Duration(100 - i)
	}
	for p, want := range map[float64]time.Duration{0: 1, 1: 1, 50: 50, 50.1: 51, 99: 99, 100: 100} {
		if got := Percentile(samples, p); got != want {
			t.Errorf("p%v: got %d, want %d", p, got, want)
		}
	}
	if got := Percentile(nil, 50); got != 0 {
		t.Errorf("no samples: got %d, want 0", got)
	}
}

func ExampleResult_FromKernel() {
	r := Result{Header: http.Header{"Server": {"cbagent"}, "X-Cbagent-Reason": {"open"}}}
	reason, ok := r.FromKernel()
	fmt.Println(reason, ok)
	// Output: open true
}
