package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// TestEveryKindOfFailureOpens fails a backend in each way that its policy knows, and nothing else.
func TestEveryKindOfFailureOpens(t *testing.T) {
	t.Parallel()
	kinds := map[string]struct {
		failure string
		fail    func(t *testing.T, p place)
		want    string // what clients see meanwhile
	}{
		"status":    {"503", behave(testserver.Behaviour{Status: 503}), "503"},
		"class":     {"4xx", behave(testserver.Behaviour{Status: 404}), "404"},
		"interim":   {"5xx", behave(testserver.Behaviour{Status: 500, Interim: []int{102, 103}}), "500"},
		"reset":     {"reset", behave(testserver.Behaviour{Ending: testserver.EndReset}), "reset"},
		"mid-head":  {"reset", behave(testserver.Behaviour{Ending: testserver.EndResetMidHead}), "reset"},
		"closed":    {"reset", behave(testserver.Behaviour{Ending: testserver.EndClose}), "closed"},
		"hang":      {"timeout", behave(testserver.Behaviour{Ending: testserver.EndHang}), "timeout"},
		"refused":   {"connect-refused", refuse, "connect-refused"},
		"unreached": {"connect-timeout", loseSYNs, "connect-timeout"},
	}
	star := newStar(t, netlab.Options{Backends: len(kinds)})
	policies := "version: 1\npolicies:\n"
	at := map[string]place{}
	for name, c := range kinds {
		b := star.Backends[len(at)]
		p := place{client: star.Client, node: star.Node, home: b.Namespace, backend: netip.AddrPortFrom(b.IPv4, port)}
		p.dial, p.server = p.backend, serve(t, p.home, p.backend)
		at[name] = p
		policies += fmt.Sprintf("- {name: %s, match: {addresses: [%q]}, outcome: {failure: [%s], timeout: 200ms, connectTimeout: 200ms}, %s}\n",
			name, p.backend, c.failure, strings.Join(threeFailures, ", "))
	}
	agent := startAgent(t, star.Node, policies, []string{"be*"})
	for name, c := range kinds {
		hangsUnseen(agent, c.failure)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := at[name]
			wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
			c.fail(t, p)
			opened := failThrice(t, p, agent, c.want)
			if opened.Reason != "consecutiveFailures" || opened.Value != 3 {
				t.Errorf("opened by %+v; want three failures", opened)
			}
			wantAnswer(t, call(t, client(t, p.client, p.dial)), "open")
		})
	}
}

// hangsUnseen announces the warning about a policy whose failures leave hanging backends out.
func hangsUnseen(agent *agenttest.Agent, failure string) {
	if failure != "timeout" {
		agent.Expect("timeout is no failure and abandoned is no failure")
	}
}

// failThrice calls the backend three times at once and waits for its circuit to open.
func failThrice(t *testing.T, p place, agent *agenttest.Agent, want string) agentproc.Transition {
	t.Helper()
	began := time.Now()
	var calls sync.WaitGroup
	for range 3 {
		c := client(t, p.client, p.dial)
		c.Timeout = 3 * time.Second // longer than the policy's, by far
		calls.Go(func() {
			if r := call(t, c); r.Outcome() != want {
				t.Errorf("got %s, %v; want %s", r.Outcome(), r.Err, want)
			}
		})
	}
	calls.Wait()
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func behave(b testserver.Behaviour) func(*testing.T, place) {
	return func(_ *testing.T, p place) { p.server.Set(b) }
}

func refuse(t *testing.T, p place) {
	if err := p.server.Refuse(); err != nil {
		t.Fatal(err)
	}
}

// loseSYNs makes the backend deaf: what reaches it is thrown away.
func loseSYNs(t *testing.T, p place) {
	err := p.home.NFT(`table inet deaf {
		chain in { type filter hook input priority 0; tcp dport 8080 drop; }
	}`)
	if err != nil {
		t.Fatal(err)
	}
}

// TestAbortedIsIgnored: clients that give up say nothing about the backend.
func TestAbortedIsIgnored(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	p.server.Set(testserver.Behaviour{Delay: time.Minute})
	for range 6 {
		c := client(t, p.client, p.dial)
		c.Timeout = 50 * time.Millisecond
		if r := call(t, c); r.Class != loadgen.Timeout {
			t.Fatalf("got %s, %v; want a timeout of the client", r.Outcome(), r.Err)
		}
	}
	eventually(t, "the backend notices", func() bool { return p.server.Counts().Abandoned == 6 })
	p.server.Set(testserver.Behaviour{})
	wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
	if got := agent.Transitions(); len(got) != 0 {
		t.Errorf("transitions %+v, want none", got)
	}
}
