package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

// agent is one in the middle of an incident.
type agent struct {
	snapshot *view.Snapshot
	history  *history.History
	healthy  error
}

func newAgent(t *testing.T) *agent {
	h, err := history.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &agent{snapshot: viewtest.Incident(t), history: h}
}

func (a *agent) Snapshot() *view.Snapshot { return a.snapshot }
func (a *agent) Ready() error             { return errors.New("policy orders waits for discovery") }
func (a *agent) Healthy() error           { return a.healthy }
func (a *agent) Policies() *policy.Set    { return nil }
func (a *agent) Last(n int) []view.Record { return a.history.Last(n) }
func (a *agent) Follow(n, buffer int) ([]view.Record, *history.Follower, error) {
	return a.history.Follow(n, buffer)
}
func (a *agent) Override(control.Target, control.Order) control.Overridden {
	return control.Overridden{}
}
func (a *agent) Trace(control.Target) (control.Tracer, error) { return nil, errors.New("no") }

func open(t *testing.T, o Options, a Agent) *Servers {
	t.Helper()
	s := New(slog.New(slog.DiscardHandler))
	stop, err := s.Open(o, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

func TestMetricsAddress(t *testing.T) {
	a := newAgent(t)
	s := open(t, Options{MetricsAddress: "127.0.0.1:0", MetricsCircuits: 10}, a)
	base := "http://" + s.metrics.Load().Addr().String()
	get := func(path string, code int, text string) {
		t.Helper()
		// A body that is announced and does not come must not be waited for.
		r, w := io.Pipe()
		defer w.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, r)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 5
		client := http.Client{Timeout: requestTimeout / 2}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != code || !strings.Contains(string(body), text) {
			t.Errorf("%s: %d, %v, %.200s; want %d, %q", path, resp.StatusCode, err, body, code, text)
		}
	}
	get("/metrics", 200, "cbagent_")
	get("/healthz", 200, "ok")
	a.healthy = errors.New("the event loop has not turned")
	get("/healthz", 503, "the event loop has not turned")
	get("/readyz", 503, "policy orders waits for discovery")
	get("/", 200, "<html")
	if v := s.View(); len(v) != 1 || v[0].Name != "metrics" {
		t.Errorf("the view is %+v", v)
	}
}

func TestControlSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := open(t, Options{ControlSocket: path, MetricsAddress: "127.0.0.1:0"}, newAgent(t))
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	resp, err := client.Get("http://agent/v1/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var ready control.Readiness
	if err := json.NewDecoder(resp.Body).Decode(&ready); err != nil || !strings.Contains(ready.WaitsFor, "policy orders") {
		t.Errorf("got %+v, %v", ready, err)
	}
	if v := s.View(); len(v) != 2 || v[0].Name != "control" || v[0].Connections != 1 || v[1].Name != "metrics" {
		t.Errorf("the view is %+v", v)
	}
}

// What cannot be opened is an error, unless clients' protection matters more.
func TestOpenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "control.sock")
	open(t, Options{ControlSocket: socket}, newAgent(t))
	for name, tc := range map[string]struct {
		o    Options
		want string // empty: no error
	}{
		"nothing":                      {Options{}, ""},
		"the address is taken":         {Options{MetricsAddress: taken.Addr().String()}, "--metrics-address"},
		"the address is optional":      {Options{MetricsAddress: taken.Addr().String(), MetricsOptional: true}, ""},
		"another agent has the socket": {Options{MetricsAddress: "127.0.0.1:0", ControlSocket: socket}, socket},
		"the group does not exist":     {Options{ControlSocket: socket + "2", ControlGroup: "no-such-group"}, "no-such-group"},
		"the socket cannot be created": {Options{ControlSocket: "/proc/no-such-folder/control.sock"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(slog.New(slog.DiscardHandler))
			stop, err := s.Open(tc.o, newAgent(t))
			if err == nil {
				stop()
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
