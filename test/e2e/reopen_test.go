package e2e

import (
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// A circuit without probes closes by the kernel's clock. What clients get before the agent has noticed belongs to the closed
// circuit, and what comes after it does too: every success ends a streak.
func TestClosesAtTheDeadlineWithoutLosingCount(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]",
		"open: {duration: 1s}", "halfOpen: {calls: 0}", "window: {type: count, size: 100}"), p.interfaces)
	c := client(t, p.client, p.dial)
	wantStatus(t, call(t, c), 200)
	opened := openCircuit(t, agent, p.server, c)
	p.server.Set(testserver.Behaviour{})
	resume := pause(t, agent)
	const unnoticed = 20
	eventually(t, "the deadline", func() bool {
		_, kernel := call(t, c).FromKernel()
		return !kernel
	})
	for range unnoticed - 1 {
		wantStatus(t, call(t, c), 200)
	}
	resume()
	closed, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At)
	if err != nil {
		t.Fatal(err)
	}
	if closed.Reason != "deadline" {
		t.Errorf("closed by %+v", closed)
	}
	p.server.SetDecide(testserver.Cycle(
		testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 2},
		testserver.Part{Behaviour: testserver.Behaviour{}, Times: 2},
	))
	const calls = 40
	for range calls {
		if _, kernel := call(t, c).FromKernel(); kernel {
			break
		}
	}
	if again, found, _ := agent.Find(p.backend.String(), "open", closed.At); found {
		t.Fatalf("opened by %+v, though no more than two failures came in a row", again)
	}
	wantMetric(t, p, unnoticed+calls, "cbagent_window_outcomes")
	wantMetric(t, p, calls/2.0/(unnoticed+calls), "cbagent_window_failure_ratio")
}
