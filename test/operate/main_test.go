// Package operate runs a real agent through incidents and looks at it as an operator does: through its metrics, its control
// socket, its commands and its page.
package operate

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// binary is the agent, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(rootonly.Main(m))
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cbagent-operate-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "operate:", err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0o755); err != nil { // a test runs it as another user
			fmt.Fprintln(os.Stderr, "operate:", err)
			return 1
		}
		binary = filepath.Join(dir, "cbagent")
		build := exec.Command("go", "build", "-ldflags", "-X main.version=v0.0.0-test", "-o", binary, "../../cmd/cbagent")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "operate: build the agent:", err)
			return 1
		}
		return m.Run()
	}())
}

const (
	patience = 20 * time.Second // bounds every wait; only a failing test waits so long
	port     = 8080
)

// stage is a network with an agent on its node and servers behind it.
type stage struct {
	*netlab.Star
	t       *testing.T
	servers []*testserver.Server
	targets []netip.AddrPort
	policy  string // file
	state   string // directory
	socket  string
	agent   *agenttest.Agent
	client  *control.Client
}

// newStage starts everything. keys are lines of the one policy, which is called orders.
func newStage(t *testing.T, backends int, keys []string, flags ...string) *stage {
	t.Helper()
	star, err := netlab.NewStar(netlab.Options{Backends: backends})
	if err != nil {
		t.Fatalf("%v (namespaces need root)", err)
	}
	dir := t.TempDir()
	s := &stage{Star: star, t: t, policy: filepath.Join(dir, "policy.yaml"), state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "cb.sock")}
	t.Cleanup(func() {
		if err := star.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, b := range star.Backends {
		at := netip.AddrPortFrom(b.IPv4, port)
		server, err := testserver.New(b.Listen, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		s.servers, s.targets = append(s.servers, server), append(s.targets, at)
	}
	s.writePolicy(s.targets, keys...)
	s.client = control.NewClient(s.socket)
	t.Cleanup(s.client.Close)
	s.start(flags...)
	return s
}

func (s *stage) writePolicy(backends []netip.AddrPort, keys ...string) {
	s.t.Helper()
	var b strings.Builder
	b.WriteString("policies:\n- name: orders\n  match:\n    addresses:\n")
	for _, at := range backends {
		fmt.Fprintf(&b, "    - %q\n", at)
	}
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s\n", k)
	}
	if err := os.WriteFile(s.policy, []byte(b.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// start starts an agent and waits until it is ready. It must end well when the test does, unless the test kills it.
func (s *stage) start(flags ...string) {
	s.t.Helper()
	command := append([]string{binary, "run", "--policy", s.policy, "--interface", "be*", "--control-socket", s.socket, "--state-dir", s.state}, flags...)
	s.agent = agenttest.Start(s.t, s.Node, command...)
	await(s.t, s.agent)
}

// loading is how long an agent may take to be ready: the kernel verifies its programs for a second of a processor's time.
const loading = 90 * time.Second

// await waits until an agent is ready.
func await(t *testing.T, agent *agenttest.Agent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), loading)
	defer cancel()
	if err := agent.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// soon returns a context that ends a wait in vain.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// load sends requests to one backend, each worker on a connection of its own, and returns what the clients got.
func (s *stage) load(backend, requests, workers int) loadgen.Counts {
	s.t.Helper()
	var seen loadgen.Tally
	l := loadgen.Load{
		Dial: s.Client.DialContext, Targets: s.targets[backend : backend+1], Workers: workers, Requests: requests,
		Timeout: 5 * time.Second, Done: seen.Done,
	}
	if err := l.Run(soon(s.t)); err != nil {
		s.t.Fatal(err)
	}
	return seen.Counts()
}

// web is a client of the agent's metrics address, which is in the node's namespace.
func (s *stage) web() *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.Node.DialContext(ctx, network, addr)
	}
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

func (s *stage) get(path string) (status int, body string) {
	s.t.Helper()
	resp, err := s.web().Get("http://127.0.0.1:9464" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

// series are the metrics of one scrape: NAME or NAME{label="value",...}, labels by name and without policy and direction.
type series map[string]float64

func (s *stage) scrape() series {
	s.t.Helper()
	status, body := s.get("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("/metrics answers %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	all := series{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			all[name+labelText(m)] = valueOf(m)
		}
	}
	return all
}

func labelText(m *dto.Metric) string {
	var parts []string
	for _, l := range m.GetLabel() {
		if l.GetName() != "policy" && l.GetName() != "direction" {
			parts = append(parts, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount())
	}
	return m.GetUntyped().GetValue()
}

// of returns a series of a backend's circuit. more are further labels, which come after backend by name.
func (s series) of(name string, backend netip.AddrPort, more string) float64 {
	if more != "" {
		more = "," + more
	}
	return s[fmt.Sprintf("%s{backend=%q%s}", name, backend, more)]
}

// run runs a command line of the agent's binary and returns what it printed and its exit code.
func (s *stage) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := exec.CommandContext(soon(s.t), binary, append(args, "--control-socket", s.socket)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// replay runs a trace through a policy with the agent's binary.
func replay(t *testing.T, policy, trace string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(soon(t), binary, "replay", "--policy", policy, trace)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("replay: %v\n%s", err, &errs)
	}
	return out.String(), errs.String()
}
