package e2e

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// lifeCyclePlaces are those of TestLifeCycle: every kind of link, since clients are rejected into it. Of pairs that differ in
// the family of addresses alone, countedPlaces has the other one.
var lifeCyclePlaces = []string{
	"IPv4", "IPv6", "bridge", "host process IPv6", "DNAT and masquerade IPv6", "firewall IPv6", "client without SACK and window scaling",
	"lo", "lo IPv6", "node address on lo", "node itself", "VXLAN IPv6", "VXLAN by route", "TUN", "TUN IPv6", "Geneve", "IP in IP", "GRE",
	"VLAN", "pods, filtered", "tagged pods", "QinQ IPv6", "MTU 9000 IPv6", "no offloads", "BIG TCP", "other routes", "marks IPv6",
	"MACVLAN", "everywhere", "every port", "VIP IPv6", "VIP, masqueraded", "VIP of ::1", "VIP of the same port", "VIP and SYN cookies",
	"masqueraded on lo",
}

// TestLifeCycle takes a circuit from closed to open, half-open and back, on every way that a client can take, with
// clients on kept and on new connections, and a neighbour who must not notice.
func TestLifeCycle(t *testing.T) {
	t.Parallel()
	for name, newPlace := range ways(lifeCyclePlaces...) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lifeCycleAt(t, newPlace(t))
		})
	}
}

// TestLifeCycleOfInboundCircuits does so with clients from elsewhere.
func TestLifeCycleOfInboundCircuits(t *testing.T) {
	t.Parallel()
	for name, newPlace := range inboundPlaces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lifeCycleAt(t, newPlace(t))
		})
	}
}

// TestLifeCycleWithClsact does so with programs that are attached as before Linux 6.6.
func TestLifeCycleWithClsact(t *testing.T) {
	t.Parallel()
	for name, newPlace := range map[string]func(*testing.T) place{
		"IPv6": places["IPv6"], "bridge": places["bridge"], "DNAT and masquerade": places["DNAT and masquerade"], "lo": places["lo"],
		"TUN": places["TUN"], "everywhere": places["everywhere"], "inbound to the node": inboundPlaces["node"], "VIP": vipPlaces["VIP"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lifeCycleAt(t, newPlace(t), "--clsact")
		})
	}
}

// lifeCycleAt takes the backend of a place through the life of a circuit.
func lifeCycleAt(t *testing.T, p place, flags ...string) {
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend, p.neighbour}, append(p.policy,
		"trip: [{consecutiveFailures: 3}]", "open: {duration: 1s}", "halfOpen: {calls: 2}")...), p.interfaces, flags...)
	stopNeighbour := callNeighbour(t, p)
	lifeCycle(t, p, agent)
	if n := stopNeighbour(); n == 0 {
		t.Error("the neighbour was never called")
	}
	for _, tr := range agent.Transitions() {
		if tr.Backend != p.backend.String() {
			t.Errorf("another circuit changed: %+v", tr)
		}
	}
}

func lifeCycle(t *testing.T, p place, agent *agenttest.Agent) {
	kept, idle := client(t, p.client, p.dial), client(t, p.client, p.dial)
	wantStatus(t, call(t, kept), 200)
	wantStatus(t, call(t, idle), 200)

	began := time.Now()
	p.server.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		wantStatus(t, call(t, kept), 500)
	}
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	if opened.From != "closed" || opened.Reason != "consecutiveFailures" || opened.Value != 3 || opened.Threshold != 3 || opened.Step != 1 ||
		opened.Until.IsZero() {
		t.Errorf("opened by %+v; want consecutiveFailures 3 of 3, step 1", opened)
	}
	before := p.server.Counts()
	answered := call(t, kept)
	wantAnswer(t, answered, "open")
	if !answered.Reused {
		t.Error("the open connection was not used")
	}
	wantAnswer(t, call(t, kept), "open") // a new connection
	again := call(t, idle)
	wantAnswer(t, again, "open")
	if !again.Reused {
		t.Error("the idle connection was not used")
	}
	if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
		t.Errorf("the backend saw %+v while its circuit was open", got)
	}

	p.server.Set(testserver.Behaviour{})
	healed := p.server.Counts()
	var last loadgen.Result
	eventually(t, "a probe is admitted", func() bool {
		last = call(t, kept)
		if last.Status == 200 {
			return true
		}
		if reason, ok := last.FromKernel(); !ok || (reason != "open" && reason != "half-open") {
			t.Fatalf("got %s, %v; want the kernel's answer", last.Outcome(), last.Err)
		}
		return false
	})
	wantStatus(t, call(t, kept), 200)
	closed, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At)
	if err != nil {
		t.Fatal(err)
	}
	if closed.From != "half-open" || closed.Reason != "probesPassed" {
		t.Errorf("closed by %+v; want probesPassed from half-open", closed)
	}
	if early := opened.Until.Sub(closed.At); early > 0 {
		t.Errorf("closed %s before the deadline", early)
	}
	for range 5 {
		wantStatus(t, call(t, kept), 200)
		wantStatus(t, call(t, idle), 200)
	}
	if got := p.server.Counts().Sub(healed).ByStatus[200]; got != 12 {
		t.Errorf("the backend answered %d requests since it healed, want 12", got)
	}
	var states []string
	for _, tr := range agent.Transitions() {
		states = append(states, tr.To)
	}
	if want := []string{"open", "half-open", "closed"}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

// callNeighbour calls the other backend until the returned function is called, which reports anything but a 200 and
// returns the number of calls.
func callNeighbour(t *testing.T, p place) func() int {
	ctx, cancel := context.WithCancel(context.Background())
	var tally loadgen.Tally
	done := make(chan error)
	go func() {
		done <- loadgen.Load{
			Dial: p.client.DialContext, Targets: []netip.AddrPort{p.neighbour}, Workers: 2, Rate: 200, Every: 5, Done: tally.Done,
		}.Run(ctx)
	}()
	stop := func() int {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		got := tally.Counts()
		if got.Requests != got.ByOutcome["200"] || len(got.FromKernel) > 0 {
			t.Errorf("the neighbour's clients got %v, %v by the kernel; want nothing but 200", got.ByOutcome, got.FromKernel)
		}
		return got.Requests
	}
	t.Cleanup(cancel)
	return stop
}
