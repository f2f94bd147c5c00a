package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

func TestMain(m *testing.M) {
	time.Local = time.UTC // the output of commands does not depend on the time zone
	os.Exit(m.Run())
}

// standIn answers on a control socket like an agent in the middle of an incident.
type standIn struct {
	snapshot *view.Snapshot
	history  *history.History
	orders   []control.Order
	targets  []control.Target
	warning  string // of orders
}

func (a *standIn) Snapshot() *view.Snapshot { return a.snapshot }

func (a *standIn) Ready() error {
	if text := a.snapshot.Agent.WaitsFor; text != "" {
		return errors.New(text)
	}
	return nil
}

func (a *standIn) Policies() *policy.Set {
	set := &policy.Set{}
	for i := range a.snapshot.Policies {
		set.Policies = append(set.Policies, a.snapshot.Policies[i].Policy)
	}
	return set
}

func (a *standIn) Last(n int) []view.Record { return a.history.Last(n) }

func (a *standIn) Follow(n, buffer int) ([]view.Record, *history.Follower, error) {
	return a.history.Follow(n, buffer)
}

func (a *standIn) Override(t control.Target, o control.Order) control.Overridden {
	a.orders, a.targets = append(a.orders, o), append(a.targets, t)
	until := time.Now().Add(o.For)
	c := control.Change{Policy: t.Policy, Backend: t.Backend, From: "closed", To: "forced-open", Mode: "forced-open"}
	if o.For > 0 {
		c.Until = &until
	}
	return control.Overridden{Changes: []control.Change{c}, Warning: a.warning}
}

func (a *standIn) Trace(control.Target) (control.Tracer, error) {
	lines := make(chan control.TraceLine, 1)
	lines <- control.TraceLine{Backend: netip.MustParseAddrPort("192.0.2.7:8080"), Result: 503, At: 2e9, Began: 1e9, Sent: 1e9}
	return tracer(lines), nil
}

type tracer chan control.TraceLine

func (t tracer) Lines() <-chan control.TraceLine { return t }
func (t tracer) Missed() uint64                  { return 0 }
func (t tracer) Close()                          {}

// startStandIn starts a stand-in and returns the path of its socket.
func startStandIn(t *testing.T) (*standIn, string) {
	t.Helper()
	s := viewtest.Incident(t)
	h, err := history.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	clients := 7.0
	value, until := 0.0, s.At.Add(9*time.Minute)
	for _, r := range []view.Record{
		*s.Policies[0].Circuits[0].Last,
		{Time: s.At.Add(-9 * time.Second), Kind: "overflow", Policy: "orders", Backend: "192.0.2.8:8080", From: "closed", To: "open", Cause: "outcome", Reason: "failureRate", Value: &value, Threshold: &value, Step: 1},
		{Time: s.At.Add(-8 * time.Second), Kind: "transition", Policy: "orders", Backend: "192.0.2.9:8080", From: "closed", To: "disabled", Mode: "disabled", Cause: "manual", Reason: "manual", Until: &until, By: "alice", Why: "load test"},
		{Time: s.At.Add(-7 * time.Second), Kind: view.KindDroppedOverride, Policy: "orders", Backend: "192.0.2.10:8080", Mode: "forced-open", Cause: "discovery", Reason: "backendGone", By: "bob", Why: "disk"},
		{Time: s.At.Add(-6 * time.Second), Kind: view.KindLease, Cause: "lease", Reason: "leaseExpired", Value: &clients, Total: 7},
	} {
		h.Add(r)
	}
	a := &standIn{snapshot: s, history: h}
	socket := filepath.Join(t.TempDir(), "cb.sock")
	l, err := control.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: control.Handler(a, slog.New(slog.DiscardHandler)), ConnContext: control.ConnContext}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return a, socket
}

// TestGolden compares the output of commands with files.
func TestGolden(t *testing.T) {
	_, socket := startStandIn(t)
	for name, args := range map[string][]string{
		"status":           {"status"},
		"status-wide":      {"status", "-o", "wide"},
		"status-json":      {"status", "-o", "json"},
		"status-yaml":      {"status", "mail", "-o", "yaml"},
		"status-backend":   {"status", "192.0.2.7:8080"},
		"events":           {"events"},
		"events-last":      {"events", "orders", "-n", "2"},
		"events-json":      {"events", "orders/192.0.2.7:8080", "-o", "json"},
		"policy":           {"policy", "orders"},
		"policy-json":      {"policy", "mail", "-o", "json"},
		"open-json":        {"open", "orders/192.0.2.7:8080", "--reason", "disk", "-o", "json"},
		"status-not-there": {"status", "order"},
		"bad-output":       {"events", "-o", "xml"},
		"bad-for":          {"open", "orders", "--for", "0s", "--reason", "x"},
		"no-reason":        {"close", "orders"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := cbagent(t, "", append(args, "--control-socket", socket)...)
			compare(t, filepath.Join("testdata", name+".txt"), stdout+stderr)
			if failed := stderr != ""; failed != (code != 0) {
				t.Errorf("exit code %d with %q on stderr", code, stderr)
			}
		})
	}
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what comes out (go test ./cmd/cbagent -update writes it anew) (-want +got):\n%s", path, diff)
	}
}

func TestOverrideOrders(t *testing.T) {
	a, socket := startStandIn(t)
	t.Setenv("SUDO_USER", "alice")
	for _, args := range [][]string{
		{"open", "orders/orders-1", "--for", "90s", "--reason", "disk"}, {"disable", "orders", "--reason", "test"},
		{"close", "192.0.2.8:8080", "--reason", "good"}, {"auto", "mail", "--reason", "over"},
	} {
		if _, stderr, code := cbagent(t, "", append(args, "--control-socket", socket)...); code != 0 {
			t.Fatalf("%v: code %d, %s", args, code, stderr)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	by := "alice (as " + me.Username + ")"
	wantOrders := []control.Order{
		{Action: "open", For: 90 * time.Second, By: by, Reason: "disk"}, {Action: "disable", By: by, Reason: "test"},
		{Action: "close", By: by, Reason: "good"}, {Action: "auto", By: by, Reason: "over"},
	}
	wantTargets := []control.Target{
		{Policy: "orders", Backend: "192.0.2.7:8080"}, {Policy: "orders"}, {Backend: "192.0.2.8:8080"}, {Policy: "mail"},
	}
	if diff := cmp.Diff(wantOrders, a.orders) + cmp.Diff(wantTargets, a.targets); diff != "" {
		t.Error(diff)
	}
}

// The warning about a restart goes to standard error, apart from the result.
func TestOverrideThatIsNotSaved(t *testing.T) {
	a, socket := startStandIn(t)
	a.warning = "in force, but not saved: no space left on device"
	for _, output := range []string{"text", "json"} {
		stdout, stderr, code := cbagent(t, "", "open", "orders", "--reason", "disk", "-o", output, "--control-socket", socket)
		if code != 0 || stderr != "cbagent: warning: "+a.warning+"\n" {
			t.Errorf("-o %s: code %d, stderr %q", output, code, stderr)
		}
		if said := strings.Contains(stdout, a.warning); said != (output == "json") {
			t.Errorf("-o %s: stdout %q", output, stdout)
		}
	}
}

// The output of cbagent policy is an equivalent policy file.
func TestPolicyCanBeReadAgain(t *testing.T) {
	a, socket := startStandIn(t)
	stdout, stderr, code := cbagent(t, "", "policy", "--control-socket", socket)
	if code != 0 {
		t.Fatal(stderr)
	}
	path := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(path, []byte(stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d := policy.Diff(a.Policies(), set)
	if len(d.Added)+len(d.Removed)+len(d.Changed) > 0 || len(d.Unchanged) != 2 {
		t.Errorf("read again it differs: %+v", d)
	}
}

// firstLine ends a context when something was written.
type firstLine struct {
	strings.Builder
	stop context.CancelFunc
}

func (f *firstLine) Write(p []byte) (int, error) {
	n, err := f.Builder.Write(p)
	f.stop()
	return n, err
}

func TestStreamsUntilInterrupted(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"events", "-o", "trace"}, `{"t":2,"backend":"192.0.2.7:8080","status":503,"latency_ms":1000,"began":1}` + "\n"},
		{[]string{"events", "--follow", "-n", "1"}, "2026-01-02 03:03:59.000  the agent was too late to renew its lease, 7 clients were let through  leaseExpired\n"},
		{[]string{"status", "--watch"}, "\x1b[H\x1b[2J"},
	} {
		_, socket := startStandIn(t)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out := &firstLine{stop: cancel}
		root := newRootCommand(&env{stdin: strings.NewReader(""), stdout: out, stderr: io.Discard})
		root.SetArgs(append(c.args, "--control-socket", socket))
		if err := root.ExecuteContext(ctx); err != nil {
			t.Errorf("%v: %v", c.args, err)
		}
		if got := out.String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.args, got, c.want)
		}
		cancel()
	}
}

func TestNoAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, args := range [][]string{
		{"status"}, {"events"}, {"policy"}, {"open", "x", "--reason", "y"}, {"close", "x", "--reason", "y"},
		{"disable", "x", "--reason", "y"}, {"auto", "x", "--reason", "y"},
	} {
		stdout, stderr, code := cbagent(t, "", append(args, "--control-socket", socket)...)
		if want := "cbagent: no agent answers at " + socket + ": is it running? If it listens elsewhere, say so with --control-socket\n"; code != exitNoAgent || stderr != want || stdout != "" {
			t.Errorf("%v: code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

func TestDoctor(t *testing.T) {
	rootonly.Test(t)
	_, socket := startStandIn(t)
	stdout, _, code := cbagent(t, "", "doctor", "--control-socket", socket)
	if code != 1 {
		t.Errorf("exit code %d, although an interface is not enforced", code)
	}
	at := strings.Index(stdout, "\nok    agent ")
	if at < 0 {
		t.Fatalf("no word of the agent in\n%s", stdout)
	}
	// The lines before depend on the machine that runs the test.
	compare(t, "testdata/doctor.txt", squeeze(stdout[at+1:]))
	for _, want := range []string{"kernel ", "capabilities ", "ring buffer ", "tcx ", "bpf file system ", "cgroup v2 "} {
		if !strings.Contains(stdout[:at], want) {
			t.Errorf("nothing about %s in\n%s", want, stdout)
		}
	}
	stdout, _, code = cbagent(t, "", "doctor", "--control-socket", filepath.Join(t.TempDir(), "none.sock"))
	if code != 0 || !strings.Contains(stdout, "note  agent ") {
		t.Errorf("without an agent: code %d\n%s", code, stdout)
	}
}

// squeeze replaces runs of spaces by one, because the width of columns depends on the machine.
func squeeze(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func TestCompletion(t *testing.T) {
	_, socket := startStandIn(t)
	stdout, _, code := cbagent(t, "", "__complete", "status", "--control-socket", socket, "")
	for _, want := range []string{"orders\n", "orders/192.0.2.7:8080\n", "mail\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("code %d: completes %q, without %q", code, stdout, want)
		}
	}
}
