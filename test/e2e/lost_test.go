package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// fewEvents makes the ring so small that a moment's inattention fills it.
var fewEvents = []string{"--max-events", "64", "--lease", "1h"}

// eventsLost is in the line of a circuit that the agent made whole from the kernel's counters.
const eventsLost = "events were lost and are recovered from the counters"

// pause stops the agent's process until the returned function is called.
func pause(t *testing.T, p *agenttest.Agent) (resume func()) {
	t.Helper()
	if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume = func() { _ = syscall.Kill(p.Pid(), syscall.SIGCONT) }
	t.Cleanup(resume) // it must be able to end
	return resume
}

// send sends so many requests to each of the targets.
func send(t *testing.T, p place, requests int, targets ...netip.AddrPort) {
	t.Helper()
	var tally loadgen.Tally
	load := loadgen.Load{Dial: p.client.DialContext, Targets: targets, Workers: 8, Requests: requests, Done: tally.Done}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Outcomes that find the ring full are in the windows all the same: all, and as what they were.
func TestFullRingLosesNoOutcome(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]bool{"agent is stopped": true, "agent is slow": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			both := []netip.AddrPort{p.backend, p.neighbour}
			agent := startAgent(t, p.node, policyOf(both, "window: {type: time, size: 10m}", "trip: [{failureCount: 1000000}]",
				"outcome: {slow: 100ms}"), p.interfaces, fewEvents...)
			if stop {
				agent.Expect(eventsLost)
			} else {
				agent.Allow(eventsLost)
			}
			p.server.SetDecide(testserver.Cycle(
				testserver.Part{Behaviour: testserver.Behaviour{Status: 500}, Times: 3}, testserver.Part{Times: 4}))
			p.other.SetDecide(testserver.Cycle(
				testserver.Part{Behaviour: testserver.Behaviour{Status: 503, Delay: 101 * time.Millisecond}, Times: 1},
				testserver.Part{Times: 20}, testserver.Part{Behaviour: testserver.Behaviour{Delay: 101 * time.Millisecond}, Times: 2}))
			send(t, p, 50, both...)
			resume := func() {}
			if stop {
				resume = pause(t, agent)
			}
			send(t, p, 3000, both...)
			resume()
			send(t, p, 200, both...)
			for i, s := range []*testserver.Server{p.server, p.other} {
				counts := s.Counts()
				label := fmt.Sprintf("backend=%q", both[i])
				eventually(t, "all outcomes are in the window", func() bool {
					n, _ := metric(t, p.node, "cbagent_window_outcomes", label)
					return n == float64(counts.Requests)
				})
				ratio, _ := metric(t, p.node, "cbagent_window_failure_ratio", label)
				failed := counts.ByStatus[500] + counts.ByStatus[503]
				if want := float64(failed) / float64(counts.Requests); ratio < want-1e-9 || ratio > want+1e-9 {
					t.Errorf("%s: a failure ratio of %v in the window, want %v", both[i], ratio, want)
				}
			}
			lost, _ := metric(t, p.node, "cbagent_ring_events_lost_total")
			good, _ := metric(t, p.node, "cbagent_ring_events_recovered_total")
			if stop && lost == 0 || lost != good {
				t.Errorf("%v events were lost, %v recovered", lost, good)
			}
		})
	}
}

// Failures of which no event came open the circuit.
func TestLostFailuresOpen(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{failureCount: 2000}]", "window: {type: time, size: 10m}",
		"open: {duration: 5m}"), p.interfaces, fewEvents...)
	agent.Expect(eventsLost)
	p.server.Set(testserver.Behaviour{Status: 500})
	began := time.Now()
	resume := pause(t, agent)
	send(t, p, 1999, p.backend)
	resume()
	eventually(t, "all are counted", func() bool {
		n, _ := metric(t, p.node, "cbagent_window_outcomes")
		return n == 1999
	})
	if got := agent.Transitions(); len(got) > 0 {
		t.Fatalf("transitions %+v before the last failure", got)
	}
	resume = pause(t, agent)
	send(t, p, 200, p.backend)
	resume()
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Reason != "failureCount" || opened.Value != 2000 {
		t.Errorf("opened by %+v, want 2,000 failures", opened)
	}
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
}

// Probes of which no event came, neither of their permits nor of their outcomes, decide the half-open period as any
// others do.
func TestLostProbes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behaviour  testserver.Behaviour
		to, reason string
	}{
		"succeed": {testserver.Behaviour{}, "closed", "probesPassed"},
		"fail":    {testserver.Behaviour{Status: 500}, "open", "probeFailed"},
		"hang":    {testserver.Behaviour{Ending: testserver.EndHang}, "open", "probeTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			policy := policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 2s}",
				"outcome: {timeout: 0s}", "halfOpen: {calls: 3, timeout: 1s}") +
				fmt.Sprintf("- {name: noise, match: {addresses: [%q]}, trip: [{failureCount: 1000000}]}\n", p.neighbour)
			agent := startAgent(t, p.node, policy, p.interfaces, fewEvents...)
			agent.Expect(eventsLost)
			opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
			wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
			p.server.Set(test.behaviour)
			p.other.Set(testserver.Behaviour{Status: 500})
			before := p.server.Counts()
			resume := pause(t, agent)
			send(t, p, 500, p.neighbour)
			stop := hammer(t, p, 4)
			eventually(t, "the probes", func() bool { return p.server.Counts().Sub(before).Requests == 3 })
			if test.behaviour.Ending != testserver.EndHang {
				eventually(t, "their answers", func() bool { return p.server.Counts().Sub(before).Answered() == 3 })
			}
			resume()
			got, err := agent.Await(soon(t), p.backend.String(), test.to, opened.At.Add(time.Millisecond))
			if err != nil {
				t.Fatalf("%v; transitions %+v", err, agent.Transitions())
			}
			if got.From != "half-open" || got.Reason != test.reason {
				t.Errorf("went from %s to %s because of %s, want %s", got.From, got.To, got.Reason, test.reason)
			}
			if lost, _ := metric(t, p.node, "cbagent_ring_events_lost_total"); lost == 0 {
				t.Error("no event was lost")
			}
			stop(0)
		})
	}
}

// A probe that is given up, and never ends, does not keep the others from being sent.
func TestVanishedProbeMakesRoom(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 300ms}",
		"outcome: {timeout: 0s}", "halfOpen: {calls: 3, concurrent: 1, tolerate: 1, timeout: 500ms}"), p.interfaces)
	opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	before := p.server.Counts().Requests
	p.server.SetDecide(func(_ *http.Request, n uint64) testserver.Behaviour {
		if n == before {
			return testserver.Behaviour{Ending: testserver.EndHang}
		}
		return testserver.Behaviour{}
	})
	stop := hammer(t, p, 4)
	if _, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At); err != nil {
		t.Error(err)
	}
	stop(1)
}

// A connection that got a permit and closes without a request gives it back: nobody takes its probe for one that failed.
func TestUnusedPermitIsGivenBack(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 3}]", "open: {duration: 300ms}",
		"halfOpen: {calls: 2, timeout: 1s}"), p.interfaces)
	opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	p.server.Set(testserver.Behaviour{})
	eventually(t, "half-open", func() bool { return time.Now().After(opened.Until) })
	for range 6 {
		c, err := p.client.DialContext(soon(t), "tcp", p.backend.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	first := client(t, p.client, p.backend)
	eventually(t, "a probe", func() bool { return call(t, first).Status == 200 })
	since := time.Now()
	eventually(t, "the time of the others is over", func() bool { return time.Since(since) > 1500*time.Millisecond })
	wantStatus(t, call(t, client(t, p.client, p.backend)), 200)
	if _, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At); err != nil {
		t.Error(err)
	}
	if _, again, _ := agent.Find(p.backend.String(), "open", opened.At.Add(time.Millisecond)); again {
		t.Errorf("it opened again: %+v", agent.Transitions())
	}
}

// An agent that hangs loses its lease, and nobody is rejected any more; when it goes on, so does what it had imposed.
func TestHangingAgentLosesItsLease(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces, "--lease", "1s")
	agent.Expect("leaseExpired")
	openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
	resume := pause(t, agent)
	kept := client(t, p.client, p.backend)
	eventually(t, "clients are admitted", func() bool { return call(t, kept).Status == 500 })
	resume()
	eventually(t, "clients are rejected again", func() bool {
		_, kernel := call(t, client(t, p.client, p.backend)).FromKernel()
		return kernel
	})
	wantAnswer(t, call(t, kept), "open")
	if n, _ := metric(t, p.node, "cbagent_lease_expired_admissions_total"); n == 0 {
		t.Error("nobody was counted as admitted because the lease expired")
	}
	if got := agent.Transitions(); len(got) != 1 {
		t.Errorf("transitions %+v, want the first opening alone", got)
	}
}
