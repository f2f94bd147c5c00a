package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// startOn starts the agent with a policy file that the test may change, and returns how.
func startOn(t *testing.T, node *netlab.Namespace, policy string, flags ...string) (p *agenttest.Agent, change func(policy string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	change = func(policy string) {
		t.Helper()
		// As an editor does it: a new file in the old one's place.
		if err := os.WriteFile(path+".new", []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	change(policy)
	return startReady(t, node, append([]string{binary, "run", "--policy", path, "--interface", "be*"}, flags...)...), change
}

// reloadsOf counts an agent's reloads.
func reloadsOf(t *testing.T, node *netlab.Namespace, result string) int {
	n, _ := metric(t, node, "cbagent_policy_reloads_total", fmt.Sprintf("result=%q", result))
	return int(n)
}

// edition is the i-th edition of a file of policies. failing: changes each time, in all that does not make it another.
// well: never changes. moved: its backend is in left and right by turns. renamed: a new policy each time.
func edition(i int, failing, well, moved, renamed netip.AddrPort) string {
	left, right := moved, netip.MustParseAddrPort("10.99.0.1:8080")
	if i%2 == 1 {
		left, right = right, left
	}
	text := fmt.Sprintf(`version: 1
policies:
- {name: failing, match: {addresses: [%q]}, trip: [{consecutiveFailures: %d}], open: {duration: 10m, max: %dm},
   window: {type: count, size: %d}, halfOpen: {calls: %d}, reject: {body: "failing %d"}}
- {name: well, match: {addresses: [%q]}, reject: {body: well}}
- {name: left, mode: forced-open, match: {addresses: [%q]}, reject: {body: left}}
- {name: right, mode: forced-open, match: {addresses: [%q]}, reject: {body: right}}
- {name: renamed-%d, mode: forced-open, match: {addresses: [%q]}, reject: {body: renamed}}
`, failing, 3+i%3, 10+i%5, 100+i%2, 1+i%4, i, well, left, right, i, renamed)
	for extra := range i % 3 {
		text += fmt.Sprintf("- {name: extra-%d, match: {addresses: ['10.99.1.%d:8080']}, reject: {body: extra}}\n", extra, extra+1)
	}
	return text
}

// Policies change a hundred times while clients call. Nobody gets an answer that is not his policy's, nobody who should
// be rejected gets through, nobody else is rejected.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 4})
	var at [4]netip.AddrPort
	var servers [4]*testserver.Server
	for i, b := range star.Backends {
		at[i] = netip.AddrPortFrom(b.IPv4, port)
		servers[i] = serve(t, b.Namespace, at[i])
	}
	failing, well, moved, renamed := at[0], at[1], at[2], at[3]
	agent, change := startOn(t, star.Node, edition(0, failing, well, moved, renamed))
	agent.Expect("policies not reloaded, the old ones stay")
	agent.Allow("backend in more than one policy") // for the moment in which one policy has it already and the other still
	openCircuit(t, agent, servers[0], client(t, star.Client, failing))
	wantAnswerBody := func(r loadgen.Result, body string) bool {
		_, kernel := r.FromKernel()
		return kernel && r.Status == 503 && strings.HasPrefix(string(r.Body), body)
	}
	if r := call(t, client(t, star.Client, failing)); !wantAnswerBody(r, "failing 0") {
		t.Fatalf("got %s %q", r.Outcome(), r.Body)
	}
	counts := [4]testserver.Counts{}
	for i, s := range servers {
		counts[i] = s.Counts()
	}

	var mu sync.Mutex
	wrong := map[string]int{}
	calls := map[netip.AddrPort]int{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- loadgen.Load{
			Dial: star.Client.DialContext, Targets: at[:], Workers: 2, Rate: 150, Every: 2,
			Done: func(target netip.AddrPort, r loadgen.Result) {
				ok := false
				switch target {
				case failing:
					ok = wantAnswerBody(r, "failing ")
				case well:
					_, kernel := r.FromKernel()
					ok = r.Status == 200 && !kernel
				case moved:
					ok = wantAnswerBody(r, "left") || wantAnswerBody(r, "right")
				case renamed:
					ok = wantAnswerBody(r, "renamed")
				}
				mu.Lock()
				defer mu.Unlock()
				calls[target]++
				if !ok {
					wrong[fmt.Sprintf("%s: %s %q %v", target, r.Outcome(), r.Body, r.Err)]++
				}
			},
		}.Run(ctx)
	}()
	var took []time.Duration
	bad := 0
	for i := 1; i <= 100; i++ {
		if i%10 == 0 {
			change(edition(i, failing, well, moved, renamed) + "- {name: bad, match: {}}\n")
			bad++
			eventually(t, "the reload fails", func() bool { return reloadsOf(t, star.Node, "failure") == bad })
			if ok, _ := metric(t, star.Node, "cbagent_policy_reload_successful"); ok != 0 {
				t.Errorf("a failed reload counts as successful")
			}
			continue
		}
		change(edition(i, failing, well, moved, renamed))
		since := time.Now()
		want := fmt.Sprintf("failing %d", i)
		eventually(t, want, func() bool { return string(call(t, client(t, star.Client, failing)).Body) == want })
		took = append(took, time.Since(since))
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Logf("%d reloads, from the change of the file to its answer: median %s, most %s", len(took), took[len(took)/2], took[len(took)-1])
	for what, n := range wrong {
		t.Errorf("%d times %s", n, what)
	}
	for _, target := range at {
		if calls[target] < 100 {
			t.Errorf("only %d calls of %s", calls[target], target)
		}
	}
	for i, name := range map[int]string{0: "failing", 2: "moved", 3: "renamed"} {
		if got := servers[i].Counts().Sub(counts[i]); got.Connections != 0 || got.Requests != 0 {
			t.Errorf("%s: the backend saw %d requests on %d connections of clients that were to be rejected", name, got.Requests, got.Connections)
		}
	}
	if got := agent.Transitions(); len(got) != 1 {
		t.Errorf("transitions %+v, want the first opening alone", got)
	}
	if said := agent.Complaint("").Error(); !strings.Contains(said, "policies not reloaded, the old ones stay") ||
		!strings.Contains(said, "match: must have at least one of") {
		t.Errorf("the agent said %q, want what is wrong with the policies", said)
	}
}

// More probes than before are sent as soon as the policy allows them, also in a half-open period that has begun.
func TestReloadInHalfOpen(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	with := func(calls int) string {
		return policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 500ms}",
			"outcome: {timeout: 0s}", fmt.Sprintf("halfOpen: {calls: %d, timeout: 5m}", calls))
	}
	agent, change := startOn(t, p.node, with(2))
	opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	p.server.Set(testserver.Behaviour{Ending: testserver.EndHang})
	stop := hammer(t, p, 8)
	if _, err := agent.Await(soon(t), p.backend.String(), "half-open", opened.At); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both probes", func() bool { return p.server.Counts().Hung == 2 })
	change(with(5))
	eventually(t, "three more", func() bool { return p.server.Counts().Hung == 5 })
	stop(200)
	if n := p.server.Counts().Hung; n != 5 {
		t.Errorf("%d probes, want 5", n)
	}
}

// A policy whose circuits become others keeps its backends, and rejects clients all the time.
func TestReloadMakesAnotherOfAPolicy(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][2]string{
		"scope":    {"scope: backend", "scope: policy"},
		"protocol": {"protocol: http", "protocol: tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			both := []netip.AddrPort{p.backend, p.neighbour}
			_, change := startOn(t, p.node, policyOf(both, "mode: forced-open", keys[0], "reject: {with: reset}"))
			stop := background(t, loadgen.Load{Dial: p.client.DialContext, Targets: both, Workers: 2, Rate: 200, Every: 1})
			for i := 1; i <= 5; i++ {
				change(policyOf(both, "mode: forced-open", keys[i%2], "reject: {with: reset}"))
				eventually(t, "the reload", func() bool { return reloadsOf(t, p.node, "success") >= i })
			}
			got := stop()
			if got.Requests != got.ByOutcome["connect-refused"] || got.Requests < 50 {
				t.Errorf("clients got %v, want nothing but rejections", got.ByOutcome)
			}
			if n := p.server.Counts().Connections + p.other.Counts().Connections; n != 0 {
				t.Errorf("the backends saw %d connections", n)
			}
		})
	}
}

// A backend that leaves its policy is let go, with its connections; what comes in its place in the tables is not mixed
// up with it.
func TestConnectionsOfALeftBackend(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	_, change := startOn(t, p.node, policyOf([]netip.AddrPort{p.backend}, "limits: {maxConnections: 3}"))
	kept := client(t, p.client, p.backend)
	wantStatus(t, call(t, kept), 200)
	for i := range 4 {
		change(policyOf([]netip.AddrPort{p.neighbour}, "limits: {maxConnections: 3}"))
		eventually(t, "the backend is gone", func() bool {
			_, series := metric(t, p.node, "cbagent_connections", fmt.Sprintf("backend=%q", p.backend))
			flows, _ := metric(t, p.node, "cbagent_flows")
			return series == 0 && flows == 0
		})
		wantStatus(t, call(t, kept), 200)
		change(policyOf([]netip.AddrPort{p.backend}, "limits: {maxConnections: 3}"))
		eventually(t, "the backend is back", func() bool {
			_, series := metric(t, p.node, "cbagent_connections", fmt.Sprintf("backend=%q", p.backend))
			return series == 1
		})
		wantStatus(t, call(t, kept), 200)
		if n, _ := metric(t, p.node, "cbagent_connections", fmt.Sprintf("backend=%q", p.backend)); n != 1 {
			t.Fatalf("round %d: %v connections are counted, want the one that was kept", i, n)
		}
	}
}

// A reload for which the tables have no room changes nothing, and says what to do; one that fits is taken, at the latest
// when the places that were in use are free.
func TestReloadThatDoesNotFit(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	with := func(policies int, body string) string {
		text := policyOf([]netip.AddrPort{p.backend}, "mode: forced-open", "reject: {body: "+body+"}")
		for i := range policies - 1 {
			text += fmt.Sprintf("- {name: more-%d, match: {addresses: ['10.99.1.%d:8080']}, reject: {body: %s}}\n", i, i+1, body)
		}
		return text
	}
	answer := func() string { return string(call(t, client(t, p.client, p.backend)).Body) }
	agent, change := startOn(t, p.node, with(10, "first"), "--max-policies", "16")
	agent.Expect("policies not reloaded, the old ones stay")
	change(with(10, "second"))
	eventually(t, "the reload fails", func() bool { return reloadsOf(t, p.node, "failure") == 1 })
	if got := answer(); got != "first" {
		t.Errorf("clients are told %q, want the old policy's answer", got)
	}
	if said := agent.Complaint("").Error(); !strings.Contains(said, "policies not reloaded") || !strings.Contains(said, "--max-policies") {
		t.Errorf("the agent said %q", said)
	}
	change(with(5, "third"))
	eventually(t, "a smaller one is in force", func() bool { return answer() == "third" })
}

// Backends for which there is no circuit are not protected, until others have left.
func TestMoreBackendsThanCircuits(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	with := func(others int) string {
		text := "version: 1\npolicies:\n"
		if others > 0 {
			text += "- name: others\n  match: {addresses: ["
			for i := range others {
				text += fmt.Sprintf("'10.1.1.%d:8080',", i+1)
			}
			text += "]}\n"
		}
		return text + fmt.Sprintf("- {name: late, mode: forced-open, match: {addresses: [%q]}}\n", p.backend)
	}
	agent, change := startOn(t, p.node, with(16), "--max-circuits", "16")
	agent.Expect("no room for another circuit: raise --max-circuits")
	wantStatus(t, call(t, client(t, p.client, p.backend)), 200)
	if said := agent.Complaint("").Error(); !strings.Contains(said, "raise --max-circuits") {
		t.Errorf("the agent said %q", said)
	}
	change(with(15))
	isEnforced(t, p.client, p.backend, true)
}

// An address that the node gets while the agent runs is the node's own from then on.
func TestNodeGetsAnAddress(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1, Remote: true})
	at := netip.MustParseAddrPort("10.20.0.77:8080")
	startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, "mode: forced-open", "direction: inbound"), []string{"be*", "up0"}, "--uplink", "up0")
	if err := star.Node.Address("lo", netip.PrefixFrom(at.Addr(), 32)); err != nil {
		t.Fatal(err)
	}
	serve(t, star.Node, at)
	isEnforced(t, star.Remote, at, true)
	isEnforced(t, star.Client, at, false)
}
