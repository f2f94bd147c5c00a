package scrape

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/agent"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/serve"
)

const (
	backends = 10000
	port     = 8080
	metrics  = "127.0.0.1:9464"
)

// site is an agent in a network namespace of its own, whose backends are all addresses of its loopback.
type site struct {
	node *netlab.Namespace
	http *http.Client
}

// common is the site of all benchmarks: they are called again and again, and ten thousand backends take their time. It
// ends with the process.
var (
	common *site
	once   sync.Once
	busy   sync.Once
)

// address is that of a backend.
func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)}), port)
}

func start(b *testing.B) *site {
	b.Helper()
	once.Do(func() {
		s, err := newSite()
		if err != nil {
			b.Fatal(err)
		}
		common = s
	})
	if common == nil {
		b.Fatal("the agent did not start")
	}
	return common
}

func newSite() (*site, error) {
	var lab netlab.Lab
	node, err := lab.Namespace("node")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cbagent-scrape-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var text strings.Builder
	text.WriteString("policies:\n- name: orders\n  match:\n    addresses:\n")
	for i := range backends {
		fmt.Fprintf(&text, "    - %q\n", address(i))
	}
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	set, err := policy.Load(path)
	if err != nil {
		return nil, err
	}
	policies, ready, ended := make(chan policy.Update, 1), make(chan struct{}), make(chan error, 1)
	policies <- policy.Update{Set: set}
	go func() {
		ended <- node.Do(func() error {
			a, err := agent.New(agent.Config{
				Policies: policies, Interfaces: ifaces.Spec{Attach: []string{"lo"}}, Lease: 10 * time.Second, Idle: time.Hour,
				Datapath: loader.Options{}, Serve: serve.Options{MetricsAddress: metrics, MetricsCircuits: backends},
				Logger: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
			})
			if err != nil {
				return err
			}
			return a.Run(context.Background())
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		return nil, fmt.Errorf("the agent ended: %w", err)
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("the agent was not ready within a minute")
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return node.DialContext(ctx, network, addr)
	}
	return &site{node: node, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}, nil
}

// work calls each backend a few times.
func (s *site) work() error {
	l, err := s.node.Listen(netip.MustParseAddrPort("0.0.0.0:8080"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	var clients sync.WaitGroup
	failed := make(chan error, 8)
	for w := range 8 {
		clients.Go(func() {
			for i := w; i < backends; i += 8 {
				for range 2 {
					resp, err := s.http.Get("http://" + address(i).String() + "/")
					if err != nil {
						failed <- err
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				s.http.CloseIdleConnections()
			}
		})
	}
	clients.Wait()
	close(failed)
	return <-failed
}

// scrape reads all metrics once and returns their size on the wire.
func (s *site) scrape(b *testing.B, encoding string) (size int64) {
	req, err := http.NewRequest(http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := s.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %v", resp.Status, err)
	}
	return n
}

// series counts the lines that are no comment.
func (s *site) series(b *testing.B) int {
	resp, err := s.http.Get("http://" + metrics + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// BenchmarkScrape of ten thousand backends: before any of them was called, and after each was.
func BenchmarkScrape(b *testing.B) {
	for _, of := range []struct {
		name string
		busy bool
	}{{"idle backends", false}, {"busy backends", true}} {
		for name, encoding := range map[string]string{"plain": "identity", "gzip": "gzip"} {
			b.Run(of.name+"/cbagent "+name, func(b *testing.B) {
				s := start(b)
				if of.busy {
					var err error
					busy.Do(func() { err = s.work() })
					if err != nil {
						b.Fatal(err)
					}
				}
				n := s.series(b)
				var size int64
				for b.Loop() {
					size = s.scrape(b, encoding)
				}
				b.ReportMetric(float64(size), "wire-bytes")
				b.ReportMetric(float64(n), "series")
			})
		}
	}
}
