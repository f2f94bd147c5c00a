// Package e2e runs the agent as an operator does, in network namespaces, between real clients and real servers.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// binary is the agent: the one that CBAGENT_BINARY names, or built once for all tests.
var binary string

// sideBySide is how many tests run at a time unless -test.parallel says otherwise: most of them wait. Each has network
// namespaces, an agent and files of its own; those that need the machine for themselves are not parallel, and say why.
const sideBySide = 4

func TestMain(m *testing.M) {
	flag.Parse()
	if !given("test.parallel") {
		_ = flag.Set("test.parallel", strconv.Itoa(sideBySide)) // a number
	}
	if os.Geteuid() != 0 {
		os.Exit(rootonly.Main(m))
	}
	if binary = os.Getenv("CBAGENT_BINARY"); binary != "" {
		os.Exit(m.Run())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cbagent-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		// Some tests run it as another user.
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		binary = filepath.Join(dir, "cbagent")
		build := exec.Command("go", "build", "-o", binary, "../../cmd/cbagent")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: build the agent:", err)
			return 1
		}
		return m.Run()
	}())
}

// given reports whether the command line has a flag.
func given(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// patience bounds every wait. Only a failing test waits so long.
const patience = 20 * time.Second

// loading is how long an agent may take to be ready: an emulated machine verifies the programs for half a minute.
const loading = 90 * time.Second

// port is where all backends listen.
const port = 8080

// soon returns a context that ends a wait in vain.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newStar makes a network that goes with the test.
func newStar(t *testing.T, o netlab.Options) *netlab.Star {
	t.Helper()
	star, err := netlab.NewStar(o)
	if err != nil {
		t.Fatalf("%v (namespaces need root)", err)
	}
	t.Cleanup(func() {
		if err := star.Close(); err != nil {
			t.Error(err)
		}
	})
	return star
}

// serve starts a server in a namespace.
func serve(t *testing.T, in *netlab.Namespace, at ...netip.AddrPort) *testserver.Server {
	t.Helper()
	s, err := testserver.New(in.Listen, at...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// policyOf returns a policy file with one policy for the backends. keys are its other lines, without indentation of
// their own.
func policyOf(backends []netip.AddrPort, keys ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\npolicies:\n- name: test\n  match:\n    addresses:\n")
	for _, at := range backends {
		fmt.Fprintf(&b, "    - %q\n", at)
	}
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s\n", k)
	}
	return b.String()
}

// startAgent starts the agent on the node, attached to the interfaces, and returns when it is ready. It must end well
// when the test does.
func startAgent(t *testing.T, node *netlab.Namespace, policy string, interfaces []string, flags ...string) *agenttest.Agent {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	command := []string{binary, "run", "--policy", path}
	for _, i := range interfaces {
		command = append(command, "--interface", i)
	}
	return startReady(t, node, append(command, flags...)...)
}

// startReady starts an agent with a command line and returns when it is ready.
func startReady(t *testing.T, node *netlab.Namespace, command ...string) *agenttest.Agent {
	t.Helper()
	defer verifying()()
	p := agenttest.Start(t, node, command...)
	ctx, cancel := context.WithTimeout(context.Background(), loading)
	defer cancel()
	if err := p.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// verifiers has room for each program set that the kernel may verify at a time: each takes a processor for a second, and
// the tests beside it need some time, too.
var verifiers = make(chan struct{}, runtime.GOMAXPROCS(0))

// verifying waits until programs may be loaded; the returned function is called when they are.
func verifying() (done func()) {
	verifiers <- struct{}{}
	return func() { <-verifiers }
}

// client returns a client in a namespace with a connection of its own.
func client(t *testing.T, in *netlab.Namespace, target netip.AddrPort) *loadgen.Client {
	t.Helper()
	c := &loadgen.Client{Dial: in.DialContext, Target: target, Timeout: 5 * time.Second}
	t.Cleanup(c.Close)
	return c
}

// call sends one GET.
func call(t *testing.T, c *loadgen.Client) loadgen.Result {
	t.Helper()
	return c.Do(soon(t), loadgen.Request{})
}

// wantStatus fails the test unless the backend itself answered with the status.
func wantStatus(t *testing.T, r loadgen.Result, status int) {
	t.Helper()
	if reason, kernel := r.FromKernel(); r.Status != status || kernel {
		t.Fatalf("got %s (kernel %q), %v; want %d of the backend", r.Outcome(), reason, r.Err, status)
	}
}

// defaultBody is what the kernel's answer says of a reason where the policy gives no body.
func defaultBody(reason string) string {
	return map[string]string{
		"open": `{"error":"circuit open"}`, "forced-open": `{"error":"circuit open"}`, "half-open": `{"error":"circuit open"}`,
		"connection-limit": `{"error":"connection limit"}`, "request-limit": `{"error":"request limit"}`,
		"rate-limit": `{"error":"rate limit"}`,
	}[reason]
}

// wantAnswer fails the test unless the kernel answered with a complete 503, for the reason.
func wantAnswer(t *testing.T, r loadgen.Result, reason string) {
	t.Helper()
	body := defaultBody(reason)
	got, kernel := r.FromKernel()
	if r.Status != 503 || !kernel || got != reason || string(r.Body) != body {
		t.Fatalf("got %s (kernel %v %q) with body %q, %v; want the kernel's 503, reason %q, with body %q",
			r.Outcome(), kernel, got, r.Body, r.Err, reason, body)
	}
}

// openCircuit lets the backend fail until its circuit opens, and returns the transition. The clients after the last
// failure may still reach the backend.
func openCircuit(t *testing.T, p *agenttest.Agent, s *testserver.Server, c *loadgen.Client) agentproc.Transition {
	t.Helper()
	began := time.Now()
	s.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		wantStatus(t, call(t, c), 500)
	}
	opened, err := p.Await(soon(t), c.Target.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// threeFailures opens a circuit after three failures in a row, until somebody is tired of waiting.
var threeFailures = []string{"trip: [{consecutiveFailures: 3}]", "open: {duration: 5m, max: 5m}"}

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
