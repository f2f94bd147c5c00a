package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

// standIn is an agent in the middle of an incident that applies no orders.
type standIn struct {
	snapshot *view.Snapshot
	history  *history.History
}

func newStandIn(t *testing.T) *standIn {
	h, err := history.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &standIn{viewtest.Incident(t), h}
}

func (a *standIn) Snapshot() *view.Snapshot { return a.snapshot }
func (a *standIn) Ready() error             { return errors.New("policy orders waits") }
func (a *standIn) Policies() *policy.Set    { return nil }
func (a *standIn) Last(n int) []view.Record { return a.history.Last(n) }

func (a *standIn) Follow(n, buffer int) ([]view.Record, *history.Follower, error) {
	return a.history.Follow(n, buffer)
}
func (a *standIn) Override(Target, Order) Overridden { return Overridden{Changes: []Change{}} }
func (a *standIn) Trace(Target) (Tracer, error) {
	return nil, errors.New("eight traces are being read already")
}

func TestResolve(t *testing.T) {
	s := viewtest.Incident(t)
	for _, c := range []struct {
		text string
		want Target
		err  string
	}{
		{"", Target{}, ""},
		{"orders", Target{Policy: "orders"}, ""},
		{"192.0.2.7:8080", Target{Backend: "192.0.2.7:8080"}, ""},
		{"orders/192.0.2.7:8080", Target{Policy: "orders", Backend: "192.0.2.7:8080"}, ""},
		{"orders/orders-1", Target{Policy: "orders", Backend: "192.0.2.7:8080"}, ""},
		{"mail/*", Target{Policy: "mail", Backend: "*"}, ""},
		{"[2001:db8::25]:25", Target{Policy: "mail", Backend: "*"}, ""},
		{"mail/[2001:db8::25]:25", Target{Policy: "mail", Backend: "*"}, ""},
		{"order", Target{}, "no policy and no backend order; nearest: orders, orders-1"},
		{"mial/x", Target{}, "no policy mial; nearest: mail"},
		{"orders/192.0.2.77:8080", Target{}, "policy orders has no backend 192.0.2.77:8080; nearest: 192.0.2.7:8080, 192.0.2.8:8080, 192.0.2.9:8080"},
		{"orders/", Target{}, "policy orders has no backend "},
	} {
		got, err := Resolve(s, c.text)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("%q: %+v, %q; want %+v, %q", c.text, got, text, c.want, c.err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	handler := Handler(newStandIn(t), slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", "/v1/override", `{"action":"open"}`, 400, "target: name a policy, or POLICY/BACKEND; reason: say why, for those who read the history"},
		{"POST", "/v1/override", `{"action":"explode","target":"orders","reason":"x"}`, 400, `action: must be open, close, disable or auto, got "explode"`},
		{"POST", "/v1/override", `{"action":"close","target":"orders","reason":"x","for_seconds":5}`, 400, "for: close is done once"},
		{"POST", "/v1/override", `{"action":"open","target":"orders","reason":"x","for_seconds":-5}`, 400, "for: must be between 1s and 8760h0m0s, got -5s"},
		{"POST", "/v1/override", `{"action":"open","target":"orders","reason":"` + strings.Repeat("x", 501) + `"}`, 400, "reason: at most 500 bytes, got 501"},
		{"POST", "/v1/override", `{"acton":"open"}`, 400, `the request cannot be read: json: unknown field "acton"`},
		{"POST", "/v1/override", `{"action":"open","target":"ordrs","reason":"x"}`, 404, "no policy and no backend ordrs"},
		{"POST", "/v1/override", strings.Repeat(" ", 1<<17), 400, "the request cannot be read"},
		{"GET", "/v1/events?last=x", "", 400, `last: must be a number, 0 or more, got "x"`},
		{"GET", "/v1/events?target=zzz", "", 404, "no policy and no backend zzz"},
		{"GET", "/v1/trace", "", 503, "eight traces are being read already"},
		{"GET", "/v2/status", "", 404, "no GET /v2/status in this agent's API"},
		{"GET", "/v1/override", "", 404, "no GET /v1/override"},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		var e Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Errorf("%s %s: %v: %s", c.method, c.path, err, w.Body)
			continue
		}
		if w.Code != c.code || !strings.HasPrefix(e.Message, c.want) {
			t.Errorf("%s %s %.60s: %d %q, want %d %q", c.method, c.path, c.body, w.Code, e.Message, c.code, c.want)
		}
	}
}

// A status may be read by programs: its keys stay.
func TestStatusKeysStay(t *testing.T) {
	got, err := json.MarshalIndent(NewStatus(viewtest.Incident(t), Target{Backend: "192.0.2.7:8080"}), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(bytes.TrimSpace(want)), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("testdata/status.json is not what comes out (-want +got):\n%s", diff)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "cb.sock")
	if _, err := Listen(path, "no-such-group"); !errors.Is(err, ErrGroup) {
		t.Errorf("a group that there is not: %v", err)
	}
	first, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("while another listens: %v", err)
	}
	// A crash leaves the name behind.
	if err := first.(*listener).UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path, "")
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	// The first one's late end does not take the second one's socket away.
	_ = first.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is there after the end")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, ""); err == nil || !strings.Contains(err.Error(), "something that is no socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file: %v", err)
	}
}

// The end of the agent in the middle of a stream is an error, and the end of a complete stream is not.
func TestAgentEndsWhileFollowed(t *testing.T) {
	a := newStandIn(t)
	a.history.Add(view.Record{Kind: view.KindLease})
	socket := filepath.Join(t.TempDir(), "cb.sock")
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(a, slog.New(slog.DiscardHandler)), ConnContext: ConnContext}
	go func() { _ = server.Serve(l) }()
	c := NewClient(socket)
	defer c.Close()
	n := 0
	err = c.Events(context.Background(), "", 10, true, func(view.Record) error {
		n++
		return server.Close()
	}, func(uint64) {})
	if n != 1 || err == nil || !strings.Contains(err.Error(), "the agent has ended") && !strings.Contains(err.Error(), "read from the agent") {
		t.Errorf("%d records, %v", n, err)
	}
	if _, err := c.Status(context.Background(), ""); !errors.Is(err, ErrNoAgent) {
		t.Errorf("afterwards: %v", err)
	}
}
