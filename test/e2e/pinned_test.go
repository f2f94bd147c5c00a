package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// restarts is how often agents are killed under load: CBAGENT_RESTARTS, or enough to see what is wrong.
func restarts(t *testing.T) int {
	t.Helper()
	s := os.Getenv("CBAGENT_RESTARTS")
	if s == "" {
		return 10
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("CBAGENT_RESTARTS: %v", err)
	}
	return n
}

// lineage is a succession of agents on one node that take over from one another.
type lineage struct {
	t      *testing.T
	node   *netlab.Namespace
	pins   string
	policy string
	flags  []string
	now    *agenttest.Agent
}

// newLineage returns one whose state is in a BPF file system of the test's own. The lease outlasts the start of an agent on a
// busy machine; later flags win.
func newLineage(t *testing.T, node *netlab.Namespace, policy string, flags ...string) *lineage {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l := &lineage{t: t, node: node, pins: filepath.Join(dir, "cbagent"), policy: policy}
	l.flags = append([]string{"--bpffs", l.pins, "--state-dir", t.TempDir(), "--lease", "1m"}, flags...)
	return l
}

// start starts the next agent, with more flags, and returns when it is ready.
func (l *lineage) start(flags ...string) *agenttest.Agent {
	l.t.Helper()
	l.now = startAgent(l.t, l.node, l.policy, []string{"be*"}, append(l.flags, flags...)...)
	return l.now
}

// stop ends the present one with SIGTERM.
func (l *lineage) stop() {
	l.t.Helper()
	if err := l.now.Stop(); err != nil {
		l.t.Fatal(err)
	}
}

// detach runs cbagent detach on the node.
func (l *lineage) detach() (string, error) {
	cmd := exec.Command(binary, "detach", "--bpffs", l.pins)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.node.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// background sends a load until the returned function is called, which returns what became of it.
func background(t *testing.T, load loadgen.Load) (stop func() loadgen.Counts) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var tally loadgen.Tally
	load.Done = tally.Done
	done := make(chan error, 1)
	go func() { done <- load.Run(ctx) }()
	t.Cleanup(cancel)
	return func() loadgen.Counts {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return tally.Counts()
	}
}

// Agents are killed and started again while clients call: one backend that is well, one whose circuit is open. Nobody
// notices, and connections stay counted.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...))
			kills := restarts(t)
			if mode == "clsact" {
				l.flags = append(l.flags, "--clsact")
				kills = (kills + 2) / 3
			}
			first := l.start()
			var idle []*loadgen.Client
			for range 7 {
				c := client(t, p.client, p.neighbour)
				wantStatus(t, call(t, c), 200)
				idle = append(idle, c)
			}
			opened := openCircuit(t, first, p.server, client(t, p.client, p.backend))
			// A request that was admitted before the circuit opened is no leak.
			wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
			before := p.server.Counts()
			well := background(t, loadgen.Load{Dial: p.client.DialContext, Targets: []netip.AddrPort{p.neighbour}, Workers: 4, Rate: 200, Every: 3})
			ill := background(t, loadgen.Load{Dial: p.client.DialContext, Targets: []netip.AddrPort{p.backend}, Workers: 2, Rate: 100, Every: 2})
			for i := range kills {
				if i%5 == 4 {
					l.stop()
				} else {
					l.now.Kill()
				}
				l.start()
				wantStatus(t, call(t, idle[i%len(idle)]), 200)
				if got := l.now.Transitions(); len(got) > 0 {
					t.Fatalf("restart %d: transitions %+v, want none", i, got)
				}
			}
			got, rejected := well(), ill()
			if got.Requests != got.ByOutcome["200"] || len(got.FromKernel) > 0 || got.Requests < 100 {
				t.Errorf("clients of the backend that is well got %v, %v by the kernel; want nothing but 200", got.ByOutcome, got.FromKernel)
			}
			if rejected.Requests != rejected.FromKernel["open"] || rejected.Requests < 50 {
				t.Errorf("clients of the open circuit got %v, %v by the kernel; want nothing but the kernel's answer", rejected.ByOutcome, rejected.FromKernel)
			}
			if leaked := p.server.Counts().Sub(before); leaked.Requests != 0 || leaked.Connections != 0 {
				t.Errorf("the backend of the open circuit saw %d requests on %d connections", leaked.Requests, leaked.Connections)
			}
			wantConnections(t, p, 7)
			idle[0].Close()
			wantConnections(t, p, 6)
			until, _ := metric(t, p.node, "cbagent_circuit_until_timestamp_seconds", fmt.Sprintf("backend=%q", p.backend))
			if want := float64(opened.Until.UnixNano()) / 1e9; until < want-1 || until > want+1 {
				t.Errorf("open until %.1f, want %.1f as in the beginning", until, want)
			}
		})
	}
}

// wantConnections waits until the kernel counts so many connections to the neighbour.
func wantConnections(t *testing.T, p place, want float64) {
	t.Helper()
	var got float64
	deadline := time.Now().Add(patience)
	for {
		if got, _ = metric(t, p.node, "cbagent_connections", fmt.Sprintf("backend=%q", p.neighbour)); got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v connections are counted, want %v", got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The deadline of an opening is the first agent's: the probes of half-open are sent then, not one more, and the circuit
// closes under its successor.
func TestDeadlineSurvivesRestart(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 12s}",
		"halfOpen: {calls: 3, timeout: 20s}"))
	opened := openCircuit(t, l.start(), p.server, client(t, p.client, p.backend))
	l.now.Kill()
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
	l.start()
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
	p.server.Set(testserver.Behaviour{Ending: testserver.EndHang})
	before := p.server.Counts()
	stop := hammer(t, p, 8)
	half, err := l.now.Await(soon(t), p.backend.String(), "half-open", opened.At)
	if err != nil {
		t.Fatal(err)
	}
	if d := half.At.Sub(opened.Until); d < -50*time.Millisecond {
		t.Errorf("half-open %s before the deadline", -d)
	}
	stop(100)
	if n := p.server.Counts().Sub(before).Requests; n != 3 {
		t.Errorf("the backend saw %d requests, want 3 probes", n)
	}
}

// An agent that dies in half-open, with its probes still out, leaves a circuit that its successor can close.
func TestHalfOpenSurvivesRestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*lineage){"killed": func(l *lineage) { l.now.Kill() }, "stopped": (*lineage).stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
				"open: {duration: 300ms}", "halfOpen: {calls: 3, timeout: 5m}", "outcome: {timeout: 0s}"))
			opened := openCircuit(t, l.start(), p.server, client(t, p.client, p.backend))
			p.server.Set(testserver.Behaviour{Ending: testserver.EndHang})
			stop := hammer(t, p, 8)
			if _, err := l.now.Await(soon(t), p.backend.String(), "half-open", opened.At); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all permits are used", func() bool { return p.server.Counts().Hung >= 3 })
			end(l)
			before := p.server.Counts()
			p.server.Set(testserver.Behaviour{})
			l.start()
			if _, err := l.now.Await(soon(t), p.backend.String(), "closed", opened.At); err != nil {
				t.Error(err)
			}
			stop(1)
			if n := p.server.Counts().Sub(before).ByStatus[200]; n < 3 {
				t.Errorf("%d probes were answered, want 3 at least", n)
			}
		})
	}
}

// Who re-opens under another agent is still the one who opened before: the duration goes on growing.
func TestBackoffSurvivesRestart(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 200ms, backoff: exponential, max: 5m}", "halfOpen: {calls: 1}"))
	began := time.Now()
	openCircuit(t, l.start(), p.server, client(t, p.client, p.backend))
	stop := hammer(t, p, 2)
	for step := 1; step <= 4; step++ {
		var got agentproc.Transition
		eventually(t, fmt.Sprintf("opening %d", step), func() bool {
			var ok bool
			got, ok, _ = l.now.Find(p.backend.String(), "open", began)
			return ok
		})
		began = got.At.Add(time.Nanosecond)
		if got.Step != step {
			t.Fatalf("opened with step %d, want %d: %+v", got.Step, step, l.now.Transitions())
		}
		l.now.Kill()
		l.start()
	}
	stop(0)
}

func TestSecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...))
	first := l.start()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(l.policy), 0o600); err != nil {
		t.Fatal(err)
	}
	err := agenttest.StartInVain(t, p.node, loading, append([]string{binary, "run", "--policy", path, "--interface", "be*"}, l.flags...)...)
	if err == nil || !strings.Contains(err.Error(), l.pins+": another agent is running") || !strings.Contains(err.Error(), "--bpffs") {
		t.Errorf("the second agent said %v", err)
	}
	if out, err := l.detach(); err == nil || !strings.Contains(out, "another agent is running") {
		t.Errorf("detach beside a running agent: %v, %s", err, out)
	}
	openCircuit(t, first, p.server, client(t, p.client, p.backend))
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
}

// attached lists what is on the interfaces of a namespace: tcx programs and filters.
func attached(t *testing.T, in *netlab.Namespace) []string {
	t.Helper()
	var found []string
	links, err := in.Links().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		for at, parent := range map[ebpf.AttachType]uint32{
			ebpf.AttachTCXIngress: netlink.HANDLE_MIN_INGRESS, ebpf.AttachTCXEgress: netlink.HANDLE_MIN_EGRESS,
		} {
			var got *link.QueryResult
			err := in.Do(func() (err error) {
				got, err = link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for range got.Programs {
				found = append(found, fmt.Sprintf("%s on %s", at, l.Attrs().Name))
			}
			filters, err := in.Links().FilterList(l, parent)
			if err != nil {
				continue // no such qdisc
			}
			for _, f := range filters {
				found = append(found, fmt.Sprintf("%s on %s", f.Type(), l.Attrs().Name))
			}
		}
	}
	return found
}

// What a killed agent leaves can be taken away: nothing of it is in the kernel then, and clients reach the backend.
func TestDetachAfterCrash(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), "--lease", "1h")
			if mode == "clsact" {
				l.flags = append(l.flags, "--clsact")
			}
			openCircuit(t, l.start(), p.server, client(t, p.client, p.backend))
			l.now.Kill()
			if got := attached(t, p.node); len(got) < 4 {
				t.Fatalf("attached after the crash: %v", got)
			}
			wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
			out, err := l.detach()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !strings.Contains(out, "removed ") {
				t.Errorf("detach said %q", out)
			}
			eventually(t, "nothing is attached", func() bool { return len(attached(t, p.node)) == 0 })
			if left, err := os.ReadDir(l.pins); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("pins: %v, %v; want none", left, err)
			}
			wantStatus(t, call(t, client(t, p.client, p.backend)), 500)
			if out, err := l.detach(); err != nil || !strings.Contains(out, "nothing to remove") {
				t.Errorf("a second detach: %v, %s", err, out)
			}
			l.start()
			openCircuit(t, l.now, p.server, client(t, p.client, p.backend))
		})
	}
}

// An agent with tables of other sizes cannot go on with its predecessor's: it says so, and replaces them.
func TestOtherLayoutIsReplaced(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...))
	openCircuit(t, l.start("--max-circuits", "1024"), p.server, client(t, p.client, p.backend))
	well := background(t, loadgen.Load{Dial: p.client.DialContext, Targets: []netip.AddrPort{p.neighbour}, Workers: 2, Rate: 100, Every: 3})
	l.now.Kill()
	next := l.start("--max-circuits", "2048")
	next.Expect("another layout")
	if said := next.Complaint("").Error(); !strings.Contains(said, "another layout") {
		t.Errorf("the agent said %q, want word of the layout", said)
	}
	wantStatus(t, call(t, client(t, p.client, p.backend)), 500)
	openCircuitOf(t, p)
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
	if maps, err := filepath.Glob(filepath.Join(l.pins, "maps-*")); err != nil || len(maps) != 1 {
		t.Errorf("maps of %v (%v), want those of one layout", maps, err)
	}
	if got := well(); got.Requests != got.ByOutcome["200"] || got.Requests == 0 {
		t.Errorf("clients of the other backend got %v, want nothing but 200", got.ByOutcome)
	}
}

// An agent removes what left the policies while none ran.
func TestLeftWhileNoAgentRan(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...))
	kept := client(t, p.client, p.backend)
	l.start()
	wantStatus(t, call(t, kept), 200)
	openCircuit(t, l.now, p.server, client(t, p.client, p.backend))
	l.now.Kill()
	l.policy = policyOf([]netip.AddrPort{p.neighbour}, threeFailures...)
	l.start()
	eventually(t, "clients are let alone", func() bool { return call(t, client(t, p.client, p.backend)).Status == 500 })
	wantStatus(t, call(t, kept), 500)
	eventually(t, "its connections are forgotten", func() bool {
		n, _ := metric(t, p.node, "cbagent_flows")
		return n == 0
	})
	if _, series := metric(t, p.node, "cbagent_connections", fmt.Sprintf("backend=%q", p.backend)); series != 0 {
		t.Errorf("it still has metrics")
	}
	wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
}

// An agent without pins that ends leaves nothing on any interface.
func TestStoppedAgentLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--clsact"}} {
		p := places["IPv4"](t)
		agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), []string{"*"}, flags...)
		if got := attached(t, p.node); len(got) < 7 {
			t.Errorf("%v: attached %v", flags, got)
		}
		if err := agent.Stop(); err != nil {
			t.Fatal(err)
		}
		if got := attached(t, p.node); len(got) > 0 {
			t.Errorf("%v: still attached: %v", flags, got)
		}
		links, err := p.node.Links().LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			qdiscs, err := p.node.Links().QdiscList(l)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					t.Errorf("%v: a clsact qdisc is left on %s", flags, l.Attrs().Name)
				}
			}
		}
	}
}

// What an operator did by hand holds under the next agent, with its end; what was done to a policy also for backends that
// come later.
func TestOverridesSurviveRestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*lineage){"killed": func(l *lineage) { l.now.Kill() }, "stopped": (*lineage).stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			socket := filepath.Join(t.TempDir(), "cbagent.sock")
			l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), "--control-socket", socket)
			l.start()
			cbagent := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(binary, append(args, "--control-socket", socket)...)
				cmd.Env = append(os.Environ(), "SUDO_USER=")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("cbagent %v: %v: %s", args, err, out)
				}
				return string(out)
			}
			const lasts = 12 * time.Second // longer than an agent takes to start on a busy machine
			target := "test/" + p.backend.String()
			cbagent("open", target, "--reason", "for long", "--for", "20s")
			cbagent("open", "test", "--reason", "all of it", "--for", "1h")
			before := time.Now()
			cbagent("disable", target, "--reason", "but this one", "--for", lasts.String())
			after := time.Now()
			end(l)
			l.policy = policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...)
			l.start()
			wantStatus(t, call(t, client(t, p.client, p.backend)), 200)
			wantAnswer(t, call(t, client(t, p.client, p.neighbour)), "forced-open")
			if got := cbagent("status"); !strings.Contains(got, "but this one") || !strings.Contains(got, "all of it") {
				t.Errorf("status says\n%s", got)
			}
			back, err := l.now.Await(soon(t), p.backend.String(), "closed", before)
			if err != nil {
				t.Fatal(err)
			}
			if back.At.Before(before.Add(lasts)) || back.At.After(after.Add(lasts+2*time.Second)) {
				t.Errorf("the override ended after %s, want %s", back.At.Sub(before), lasts)
			}
		})
	}
}

// The hooks before TC go on from agent to agent as well: there is no moment in which one is not there.
func TestEarlyHooksSurviveRestart(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, Remote: true})
	home := netip.AddrPortFrom(netlab.NodeIPv4, port)
	vip := netip.MustParseAddrPort("10.96.0.20:80")
	server := serve(t, star.Node, home)
	err := star.Node.NFT(`table ip nat {
		chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.20 tcp dport 80 dnat to 10.20.0.1:8080; }
	}`)
	if err != nil {
		t.Fatal(err)
	}
	pod := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	podServer := serve(t, star.Backends[0].Namespace, pod)
	wantStatus(t, call(t, client(t, star.Client, vip)), 200)
	policy := policyOf([]netip.AddrPort{home}, "mode: forced-open", "reject: {with: reset}") +
		fmt.Sprintf("- {name: in, mode: forced-open, direction: inbound, match: {addresses: [%q]}, reject: {with: reset}}\n", pod)
	l := newLineage(t, star.Node, policy, "--interface", "up0", "--uplink", "up0", "--xdp", "generic", "--sk-lookup",
		"--connect-cgroup", newCgroup(t))
	l.start()
	for _, c := range []struct {
		from *netlab.Namespace
		to   netip.AddrPort
	}{{star.Client, vip}, {star.Remote, pod}} {
		if r := call(t, client(t, c.from, c.to)); r.Class != loadgen.ConnectRefused {
			t.Fatalf("%s: got %s, %v; want a rejection", c.to, r.Outcome(), r.Err)
		}
	}
	before, podBefore := server.Counts(), podServer.Counts()
	toVIP := background(t, loadgen.Load{Dial: star.Client.DialContext, Targets: []netip.AddrPort{vip}, Workers: 2, Rate: 200, Every: 1})
	toPod := background(t, loadgen.Load{Dial: star.Remote.DialContext, Targets: []netip.AddrPort{pod}, Workers: 2, Rate: 200, Every: 1})
	for i := range 4 {
		if i%2 == 0 {
			l.now.Kill()
		} else {
			l.stop()
		}
		l.start()
	}
	for name, got := range map[string]loadgen.Counts{"NAT": toVIP(), "remote": toPod()} {
		if got.Requests != got.ByOutcome["connect-refused"] || got.Requests < 50 {
			t.Errorf("%s: clients got %v, want nothing but rejections", name, got.ByOutcome)
		}
	}
	if a, b := server.Counts().Sub(before).Connections, podServer.Counts().Sub(podBefore).Connections; a+b != 0 {
		t.Errorf("the backends saw %d and %d connections", a, b)
	}
	links, err := os.ReadDir(filepath.Join(l.pins, "links"))
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 2*2+4 { // be1, up0; XDP, two of connect, lookup
		t.Errorf("pinned links %v", links)
	}
	l.now.Kill()
	if out, err := l.detach(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The kernel frees a link a moment after its last holder has closed it.
	isEnforced(t, star.Client, vip, false)
	isEnforced(t, star.Remote, pod, false)
}

// An agent that attaches in another way than its predecessor leaves none of the other's programs behind.
func TestOtherWayOfAttaching(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...))
	openCircuit(t, l.start(), p.server, client(t, p.client, p.backend))
	for _, flags := range [][]string{{"--clsact"}, nil, {"--clsact"}, nil} {
		l.now.Kill()
		l.start(flags...)
		wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
		wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
		// The kernel frees a link a moment after its last holder has closed it.
		eventually(t, "two programs are on each of two interfaces", func() bool { return len(attached(t, p.node)) == 4 })
	}
}

// What is still in the ring when an agent takes over are the failures of a time whose successes it does not know: they
// open no circuit.
func TestFailuresOfAnInterregnum(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	l := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{all: [{minCalls: 20}, {failureRate: 0.5}]}]",
		"window: {type: time, size: 1m}"))
	l.start()
	p.server.SetDecide(testserver.Cycle(testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 3}, testserver.Part{Times: 7}))
	l.now.Kill()
	send(t, p, 500, p.backend)
	l.start()
	send(t, p, 200, p.backend)
	eventually(t, "the new window fills", func() bool {
		n, _ := metric(t, p.node, "cbagent_window_outcomes")
		return n == 200
	})
	if got, _ := metric(t, p.node, "cbagent_window_failure_ratio"); got < 0.25 || got > 0.35 {
		t.Errorf("a failure ratio of %v in the window, want 0.3", got)
	}
	if got := l.now.Transitions(); len(got) > 0 {
		t.Errorf("transitions %+v, want none", got)
	}
}
