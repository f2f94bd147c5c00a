package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/serve"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

// ordersOf is a policy of addresses that opens at the third failure in a row, with further lines.
func ordersOf(addresses string, lines ...string) string {
	text := "version: 1\npolicies:\n- name: orders\n  match: {addresses: [" + addresses + "]}\n" +
		"  trip: [{consecutiveFailures: 3}]\n  open: {duration: 30s, jitter: 0}\n"
	for _, l := range lines {
		text += "  " + l + "\n"
	}
	return text
}

const (
	a1 = "192.0.2.1:80"
	a2 = "192.0.2.2:80"
	a3 = "192.0.2.3:80"
)

func both(x, y string) string { return `"` + x + `", "` + y + `"` }

// wantBackends compares the backends in the kernel with those wanted, in one direction, by their addresses.
func (n *node) wantBackends(dir tables.Direction, want ...string) {
	n.t.Helper()
	var got []string
	n.kernel.mu.Lock()
	defer n.kernel.mu.Unlock()
	for b := range n.kernel.backends {
		if b.Direction == dir {
			got = append(got, b.Addr.String())
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		n.t.Errorf("the backends in the kernel are %v, want %v", got, want)
	}
}

// Policies in force are in the kernel: settings, answers, and a circuit for each backend.
func TestPoliciesInForce(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2), "exempt: {sources: [198.51.100.0/24]}", "limits: {maxConnections: 7}", "rateLimit: {limit: 10, period: 1s}"))
	n.wantBackends(tables.Outbound, a1, a2)
	c := n.mustFind("orders", a1)
	s := n.kernel.policies[n.kernel.policyOf[c.id]]
	if s.MaxConnections != 7 || s.RateLimit != 10 || !s.ExemptSome || s.Direction != tables.Outbound {
		t.Errorf("the settings in the kernel are %+v", s)
	}
	if got := n.kernel.exempt[n.kernel.policyOf[c.id]]; len(got) != 1 || got[0] != netip.MustParsePrefix("198.51.100.0/24") {
		t.Errorf("exempt are %v", got)
	}
	for protocol, answers := range map[string][tables.Rejections]int{"HTTP/1.x": s.Answers, "HTTP/2": s.HTTP2Answers, "gRPC": s.GRPCAnswers} {
		frames := map[string]int{"HTTP/1.x": 0, "HTTP/2": 2, "gRPC": 1}[protocol]
		for reason, index := range answers {
			a, ok := n.kernel.answers[index]
			if !ok || a.Frames != frames || !strings.Contains(string(a.Bytes), tables.Rejection(reason).String()) {
				t.Errorf("%s, %s: place %d has %q", protocol, tables.Rejection(reason), index, a.Bytes)
			}
		}
	}
	if v := n.kernel.Published(c.id); v.Kind != ledger.Closed || v.Generation != 1 {
		t.Errorf("the verdict is %+v", v)
	}
	if n.circuitCount() != 2 || n.Policies() == nil {
		t.Errorf("%d circuits, policies %v", n.circuitCount(), n.Policies())
	}
}

// Policies share the HTTP answers that are equal. A gRPC answer names its policy, and a policy that resets has none.
func TestAnswersAreShared(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(strings.Join([]string{
		"policies:",
		"- {name: a, match: {addresses: ['192.0.2.1:80']}}",
		"- {name: b, match: {addresses: ['192.0.2.2:80']}}",
		"- {name: c, match: {addresses: ['192.0.2.3:80']}, reject: {message: busy}}",
		"- {name: d, match: {addresses: ['192.0.2.4:80']}, reject: {message: busy}}",
		"- {name: e, match: {addresses: ['192.0.2.5:80']}, reject: {with: reset}}",
	}, "\n"))
	if got, want := len(n.kernel.answers), (1+1+3)*tables.Rejections; got != want {
		t.Errorf("%d answers, expected %d", got, want)
	}
	reset := n.kernel.policies[n.kernel.policyOf[n.mustFind("e", "192.0.2.5:80").id]]
	if none := tables.NoAnswers(); reset.Answers != none || reset.HTTP2Answers != none || reset.GRPCAnswers != none {
		t.Errorf("a policy that resets has answers: %+v", reset)
	}
}

func TestProtocolsOfTheKernel(t *testing.T) {
	for protocol, want := range map[string]tables.Protocol{"http": tables.HTTP, "grpc": tables.HTTP, "tcp": tables.TCP} {
		n := newNode(t, newKernel(), nil)
		n.mustApply(ordersOf(both(a1, a2), "protocol: "+protocol))
		if got := n.kernel.policies[n.kernel.policyOf[n.mustFind("orders", a1).id]].Protocol; got != want {
			t.Errorf("%s is %d in the kernel, expected %d", protocol, got, want)
		}
	}
}

// Failures open a circuit, which is recorded; time makes it half-open.
func TestOpening(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2)))
	c := n.mustFind("orders", a1)
	n.fails(c, 3)
	if v := n.kernel.Published(c.id); v.Kind != ledger.Open || v.Until < n.now+int64(30*time.Second) {
		t.Errorf("the verdict is %+v", v)
	}
	if other := n.mustFind("orders", a2); n.kernel.Published(other.id).Kind != ledger.Closed {
		t.Error("the other backend's circuit has opened, too")
	}
	last := n.Last(10)
	if len(last) != 1 || last[0].To != "open" || last[0].Backend != a1 || c.trail.Last == nil {
		t.Errorf("the records are %+v", last)
	}
	n.after(31 * time.Second)
	if c.circuit.State() != breaker.StateHalfOpen {
		t.Errorf("the circuit is %s after its deadline", c.circuit.State())
	}
}

// A reload with other settings keeps circuits and their verdicts, and what is unchanged its place.
func TestReloadKeepsCircuits(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2)))
	c := n.mustFind("orders", a1)
	n.fails(c, 3)
	old := n.kernel.policyOf[c.id]
	n.mustApply(ordersOf(both(a1, a3), "limits: {maxConnections: 7}"))
	n.wantBackends(tables.Outbound, a1, a3)
	again := n.mustFind("orders", a1)
	if again != c || n.kernel.Published(c.id).Kind != ledger.Open || c.policy != n.policies["orders"] {
		t.Errorf("the circuit is another one, or has the verdict %+v", n.kernel.Published(c.id))
	}
	if index := n.kernel.policyOf[c.id]; index == old || n.kernel.policies[index].MaxConnections != 7 {
		t.Errorf("the circuit has the policy at %d, which was that of before", index)
	}
	if n.find("orders", a2) != nil {
		t.Error("a backend that is in the policies no more has a circuit")
	}
}

// A reload that gives circuits another meaning begins with new ones.
func TestReloadWithAnotherScope(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2)))
	n.fails(n.mustFind("orders", a1), 3)
	n.mustApply(ordersOf(both(a1, a2), "scope: policy"))
	c := n.mustFind("orders", breaker.SharedBackend)
	if len(c.backends) != 2 || n.kernel.Published(c.id).Kind != ledger.Closed || n.circuitCount() != 1 {
		t.Errorf("%d backends, verdict %+v, %d circuits", len(c.backends), n.kernel.Published(c.id), n.circuitCount())
	}
	n.wantBackends(tables.Outbound, a1, a2)
	for b, circuit := range n.kernel.backends {
		if circuit != c.id {
			t.Errorf("%s has circuit %d in the kernel, want %d", b.Addr, circuit, c.id)
		}
	}
}

func TestReloadWithAnotherDirection(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(`"` + a1 + `"`))
	n.mustApply(ordersOf(`"`+a1+`"`, "direction: inbound", "reject: {with: reset}"))
	n.wantBackends(tables.Outbound)
	n.wantBackends(tables.Inbound, a1)
	if !n.canUseXDP() {
		t.Error("XDP is of no use to an inbound policy that resets")
	}
	n.mustApply("version: 1\npolicies: []\n")
	n.wantBackends(tables.Inbound)
	if n.canUseXDP() || n.circuitCount() != 0 {
		t.Errorf("XDP is of use, or %d circuits are left", n.circuitCount())
	}
}

// A circuit that is dropped with live connections keeps its place until the last has gone.
func TestDroppedCircuitWithConnections(t *testing.T) {
	n := newNode(t, newKernel(), func(c *Config) { c.Datapath.Circuits = 1 })
	n.mustApply(ordersOf(`"` + a1 + `"`))
	id := n.mustFind("orders", a1).id
	n.kernel.connections[id] = 1
	n.mustApply(ordersOf(`"` + a2 + `"`))
	if n.find("orders", a2) != nil || !n.unplaced[backend(a2, tables.Outbound)] || !n.crowded {
		t.Fatal("a circuit's place is used again while connections refer to it")
	}
	n.after(2 * time.Second)
	if n.find("orders", a2) != nil {
		t.Fatal("a circuit's place is used again while connections refer to it, some seconds later")
	}
	n.kernel.connections[id] = 0
	n.after(2 * time.Second)
	if c := n.mustFind("orders", a2); c.id != id || n.crowded || len(n.unplaced) != 0 {
		t.Errorf("circuit %d, crowded %v, %d without a place", c.id, n.crowded, len(n.unplaced))
	}
	n.wantBackends(tables.Outbound, a2)
}

// Policies for which there is no room leave those in force as they are, and come into force when there is.
func TestReloadThatDoesNotFit(t *testing.T) {
	n := newNode(t, newKernel(), func(c *Config) { c.Datapath.Policies = 2 })
	n.mustApply(ordersOf(`"` + a1 + `"`))
	n.mustApply(ordersOf(`"`+a1+`"`, "limits: {maxConnections: 1}")) // the place of the first rests
	set, err := policy.Parse("p.yaml", []byte(ordersOf(`"`+a1+`"`, "limits: {maxConnections: 2}")))
	if err != nil {
		t.Fatal(err)
	}
	n.onPolicies(policy.Update{Set: set})
	if n.reloads.failures != 1 || !strings.Contains(n.reloads.lastError, "--max-policies") || n.policies["orders"].Limits.MaxConnections != 1 {
		t.Errorf("%+v", n.reloads)
	}
	n.onPolicies(policy.Update{Err: errFake})
	if n.reloads.failures != 2 || n.reloads.lastError != errFake.Error() {
		t.Errorf("%+v", n.reloads)
	}
	n.onPolicies(policy.Update{Set: set})
	n.after(2 * time.Second)
	n.after(2 * time.Second)
	if n.reloads.lastError != "" || n.policies["orders"].Limits.MaxConnections != 2 || n.reloads.unfit != nil {
		t.Errorf("%+v, maxConnections %d", n.reloads, n.policies["orders"].Limits.MaxConnections)
	}
}

// A backend that cannot be written to the kernel takes no place in the tables.
func TestPolicyThatTheKernelRejects(t *testing.T) {
	for _, method := range []string{"PutPolicy", "PutAnswer", "SetExemptSources"} {
		n := newNode(t, newKernel(), func(c *Config) { c.Datapath.Policies = 1 })
		n.kernel.fail[method] = true
		if err := n.apply(ordersOf(`"` + a1 + `"`)); !errors.Is(err, errFake) {
			t.Errorf("%s: %v", method, err)
		}
		n.kernel.fail[method] = false
		n.after(2 * time.Second)
		if err := n.apply(ordersOf(`"` + a1 + `"`)); err != nil {
			t.Errorf("%s: the place is lost: %v", method, err)
		}
	}
}

// An operator's order is in force at once, applies to backends that are added later, and is in the saved state.
func TestStandingOverride(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(`"` + a1 + `"`))
	done := n.Override(control.Target{Policy: "orders"}, control.Order{Action: control.ActionOpen, By: "root", Reason: "drill"})
	if len(done.Changes) != 1 || done.Changes[0].To != "forced-open" || done.Warning != "" {
		t.Errorf("%+v", done)
	}
	n.mustApply(ordersOf(both(a1, a2)))
	for _, addr := range []string{a1, a2} {
		if v := n.kernel.Published(n.mustFind("orders", addr).id); v.Kind != ledger.ForcedOpen || !v.Override {
			t.Errorf("%s has the verdict %+v", addr, v)
		}
	}
	s := n.stateToSave()
	if o, ok := s.Standing["orders"]; !ok || o.Who != "root" || o.Why != "drill" || len(s.Circuits) != 2 {
		t.Errorf("the state to save is %+v", s)
	}
	done = n.Override(control.Target{Policy: "orders"}, control.Order{Action: control.ActionAuto, By: "root", Reason: "over"})
	if len(done.Changes) != 2 || done.Changes[0].To != "closed" || len(n.stateToSave().Standing) != 0 {
		t.Errorf("%+v; standing %v", done, n.stateToSave().Standing)
	}
	n.mustApply(ordersOf(`"` + a2 + `"`))
	done = n.Override(control.Target{Policy: "orders", Backend: a2}, control.Order{Action: control.ActionDisable, By: "root", Reason: "x", For: time.Minute})
	if len(done.Changes) != 1 || done.Changes[0].Until == nil || len(n.stateToSave().Standing) != 0 {
		t.Errorf("%+v; standing %v", done, n.stateToSave().Standing)
	}
	// One that leaves with its backend is recorded.
	n.mustApply("version: 1\npolicies: []\n")
	if last := n.Last(1); len(last) != 1 || last[0].Kind != view.KindDroppedOverride || last[0].By != "root" {
		t.Errorf("the last record is %+v", last)
	}
}

func TestCloseOrder(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(`"` + a1 + `"`))
	c := n.mustFind("orders", a1)
	order := control.Order{Action: control.ActionClose, By: "root", Reason: "x"}
	if done := n.Override(control.Target{}, order); len(done.Changes) != 1 || done.Changes[0].Note != "was closed already" {
		t.Errorf("%+v", done)
	}
	n.fails(c, 3)
	if done := n.Override(control.Target{}, order); done.Changes[0].From != "open" || done.Changes[0].To != "closed" {
		t.Errorf("%+v", done)
	}
	if v := n.kernel.Published(c.id); v.Kind != ledger.Closed {
		t.Errorf("the verdict is %+v", v)
	}
	order.Action = control.ActionAuto
	if done := n.Override(control.Target{}, order); done.Changes[0].Note != "nothing to take back" {
		t.Errorf("%+v", done)
	}
}

// A new agent restores the verdicts in the kernel and the state file, and removes backends that are in no policy.
func TestTakingOver(t *testing.T) {
	dir := t.TempDir()
	pinned := func(c *Config) { c.StateDir, c.Datapath.PinPath = dir, filepath.Join(dir, "pins") }
	k := newKernel()
	first, err := newAgent(withDefaults(pinned), k, tables.Now)
	if err != nil {
		t.Fatal(err)
	}
	first.discovery = discovery.New(first.log, discovery.Options{})
	n := &node{Agent: first, t: t, kernel: k, now: tables.Now()}
	n.mustApply(ordersOf(both(a1, a2)))
	open, gone := n.mustFind("orders", a1), n.mustFind("orders", a2)
	n.Override(control.Target{Policy: "orders"}, control.Order{Action: control.ActionOpen, By: "root", Reason: "drill"})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	first.discovery.Close()

	k.hasAdopted, k.adopted, k.closed = true, maps.Clone(k.backends), false
	k.connections[9] = 1 // of a circuit that the first one had not released
	second := newNode(t, k, pinned)
	second.mustApply(ordersOf(`"` + a1 + `"`))
	c := second.mustFind("orders", a1)
	if c.id != open.id || k.Published(c.id).Kind != ledger.ForcedOpen || c.circuit.Status().Override.Who != "root" {
		t.Errorf("circuit %d, verdict %+v, status %+v", c.id, k.Published(c.id), c.circuit.Status())
	}
	if o := second.stateToSave().Standing["orders"]; o.Why != "drill" {
		t.Errorf("the standing override is %+v", o)
	}
	second.after(time.Second)
	second.wantBackends(tables.Outbound, a1, a2) // until discovery has reported
	second.onBackends(discovery.Update{Sets: []discovery.Set{{
		Policy: "orders", Complete: true, Backends: []discovery.Backend{{Addr: netip.MustParseAddrPort(a1), Kind: discovery.KindAddress}},
	}}})
	second.after(time.Second)
	second.wantBackends(tables.Outbound, a1)
	if _, kept := k.owners[gone.id]; kept {
		t.Error("the circuit of a backend that is in no policy is not released")
	}
	if !second.health.ready {
		t.Error("the agent is not ready although discovery has reported")
	}
}

// Backends that discovery finds are added, those that it finds no longer are removed, and one of two policies belongs to
// the first.
func TestDiscovered(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply("version: 1\npolicies:\n- name: one\n  match: {hosts: [\"one.example:80\"]}\n- name: two\n  match: {hosts: [\"two.example:80\"]}\n")
	found := func(policy string, addrs ...string) discovery.Set {
		s := discovery.Set{Policy: policy, Complete: true}
		for _, a := range addrs {
			s.Backends = append(s.Backends, discovery.Backend{Addr: netip.MustParseAddrPort(a), Kind: discovery.KindHost})
		}
		return s
	}
	n.onBackends(discovery.Update{Sets: []discovery.Set{found("two", a1, a2), found("gone", a3)}})
	if n.health.ready {
		t.Error("ready before discovery has reported on each policy")
	}
	n.wantBackends(tables.Outbound, a1, a2)
	n.fails(n.mustFind("two", a1), 5)
	n.onBackends(discovery.Update{Sets: []discovery.Set{found("one", a1)}})
	if n.find("two", a1) != nil || n.kernel.backends[backend(a1, tables.Outbound)] != n.mustFind("one", a1).id {
		t.Error("a backend of two policies does not belong to the first")
	}
	n.onBackends(discovery.Update{Sets: []discovery.Set{found("one"), found("two", a1)}})
	n.wantBackends(tables.Outbound, a1)
	if n.find("one", a1) != nil || n.find("two", a1) == nil || !n.health.ready {
		t.Errorf("the backend does not go to the policy that still has it, or ready is %v", n.health.ready)
	}
}

// Backends within a policy's networks are learned from traffic, up to a number, and forgotten without it.
func TestLearned(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply("version: 1\npolicies:\n- name: net\n  match: {cidrs: [\"192.0.2.0/24:80\"]}\n  trip: [{consecutiveFailures: 3}]\n")
	if len(n.kernel.networks) != 1 || n.kernel.networks[0].Port != 80 {
		t.Errorf("the networks in the kernel are %+v", n.kernel.networks)
	}
	call := func(addr string, inbound bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.onEvent(&ledger.Event{Kind: ledger.EventLearn, Backend: netip.MustParseAddrPort(addr), At: n.now, Inbound: inbound})
	}
	call(a1, false)
	call(a2, true) // no inbound policy has the network
	call("198.51.100.1:80", false)
	call("192.0.2.9:81", false)
	n.wantBackends(tables.Outbound, a1)
	for i := range 5 {
		n.now++
		call(fmt.Sprintf("192.0.2.%d:80", 10+i), false)
	}
	if got := len(n.kernel.backends); got != 3 {
		t.Errorf("%d backends are learned, want 3 at most", got)
	}
	n.mustApply("version: 1\npolicies:\n- name: net\n  match: {cidrs: [\"192.0.2.12/32:80\"]}\n  trip: [{consecutiveFailures: 3}]\n")
	if _, ok := n.kernel.backends[backend("192.0.2.14:80", tables.Outbound)]; ok {
		t.Error("a learned backend stays outside the networks")
	}
	n.after(2 * learnedIdle)
	n.after(2 * learnedIdle)
	n.wantBackends(tables.Outbound)
}

// The snapshot shows circuits, counts and what the agent waits for.
func TestSnapshot(t *testing.T) {
	n := newNode(t, newKernel(), func(c *Config) {
		c.Version, c.Lost = "v1", map[string]func() uint64{view.SinkLog: func() uint64 { return 7 }}
	})
	if s := n.Snapshot(); len(s.Policies) != 0 || s.Agent.WaitsFor != "no policies are in force yet" {
		t.Errorf("at first: %+v", s.Agent)
	}
	n.mustApply(ordersOf(both(a2, a1)))
	n.fails(n.mustFind("orders", a1), 3)
	s := n.Snapshot()
	if len(s.Policies) != 1 || len(s.Policies[0].Circuits) != 2 {
		t.Fatalf("%+v", s.Policies)
	}
	for i, addr := range []string{a1, a2} {
		if c := s.Policies[0].Circuits[i]; c.Name != addr || c.Status.State == breaker.StateOpen != (addr == a1) {
			t.Errorf("circuit %d: %s is %s", i, c.Name, c.Status.State)
		}
	}
	if s.Agent.RingEvents != 3 || s.Agent.Lost[view.SinkLog] != 7 || s.Agent.Version != "v1" || s.Agent.Ready {
		t.Errorf("%+v", s.Agent)
	}
	n.kernel.fail["Packets"], n.kernel.fail["Statuses"] = true, true
	if s := n.Snapshot(); len(s.Policies) != 1 {
		t.Error("a snapshot without counts lacks its policies")
	}
}

func TestHealthy(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	if err := n.Healthy(); err != nil {
		t.Errorf("before it turns: %v", err)
	}
	n.after(0)
	if err := n.Healthy(); err != nil {
		t.Errorf("after a turn: %v", err)
	}
	n.health.ticked.Store(time.Now().Add(-stuckAfter - time.Second).UnixNano())
	if err := n.Healthy(); err == nil || n.Ready() == nil {
		t.Error("an event loop that is stuck is healthy, or ready")
	}
}

func TestReady(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	want := func(text string) {
		t.Helper()
		err := n.Ready()
		if err == nil && text != "" || err != nil && (text == "" || !strings.Contains(err.Error(), text)) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	want("no policies are in force yet")
	n.health.waits = ErrNotYet
	want(ErrNotYet.Error())
	n.mustApply(ordersOf(`"` + a1 + `"`))
	want("policy orders waits for discovery")
	set := discovery.Set{Policy: "orders", Backends: []discovery.Backend{{Addr: netip.MustParseAddrPort(a1)}}, Err: &discovery.KubeError{}}
	n.health.ready = true
	n.onBackends(discovery.Update{Sets: []discovery.Set{set}})
	want("policy orders is not in force")
	set.Complete, set.Err = true, nil
	n.health.ready = false
	n.onBackends(discovery.Update{Sets: []discovery.Set{set}})
	want("")
}

// Clients that were admitted because the lease had expired are recorded once.
func TestLeaseIsRecorded(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.kernel.expired = 5
	n.after(0)
	n.after(2 * time.Second)
	last := n.Last(10)
	if len(last) != 1 || last[0].Kind != view.KindLease || *last[0].Value != 5 || last[0].Total != 5 {
		t.Errorf("the records are %+v", last)
	}
	if leaseReported(n.dir.History) != 5 {
		t.Errorf("the history says %d", leaseReported(n.dir.History))
	}
	if n.kernel.lease != n.now+int64(n.cfg.Lease) {
		t.Errorf("the lease runs for %s", time.Duration(n.kernel.lease-n.now))
	}
}

// A sweep is soon followed by another one when something is about to time out, and by none at once when it fails.
func TestSweep(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(`"` + a1 + `"`))
	now := n.now
	if next := n.sweep(now); next != now+int64(tick) {
		t.Errorf("the next sweep is after %s", time.Duration(next-now))
	}
	n.kernel.due = now + int64(50*time.Millisecond)
	if next := n.sweep(now); next != n.kernel.due {
		t.Errorf("the next sweep is after %s, want 50 ms", time.Duration(next-now))
	}
	n.kernel.due = now
	if next := n.sweep(now); next != now+int64(tick/20) {
		t.Errorf("the next sweep is after %s, want %s", time.Duration(next-now), tick/20)
	}
	n.kernel.fail["Sweep"] = true
	if next := n.sweep(now); next != now+int64(time.Second) {
		t.Errorf("a failed sweep is tried again after %s", time.Duration(next-now))
	}
}

// A request that waits too long opens a circuit at the sweep that finds it.
func TestPendingAge(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply("version: 1\npolicies:\n- name: orders\n  match: {addresses: [\"" + a1 + "\"]}\n  trip: [{pendingAge: 2s}]\n  open: {duration: 30s}\n")
	c := n.mustFind("orders", a1)
	if pause := n.onSweep(); pause <= 0 || c.circuit.State() != breaker.StateClosed {
		t.Errorf("pause %s, the circuit is %s", pause, c.circuit.State())
	}
	n.kernel.pending[c.id] = n.now - int64(3*time.Second)
	n.onSweep()
	if c.circuit.State() != breaker.StateOpen || n.kernel.Published(c.id).Kind != ledger.Open {
		t.Errorf("the circuit is %s, the verdict %+v", c.circuit.State(), n.kernel.Published(c.id))
	}
}

// A trace has the events of its target, and the kernel sends all while there is one.
func TestTrace(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2)))
	tr, err := n.Trace(control.Target{Policy: "orders", Backend: a1})
	if err != nil || !n.kernel.trace {
		t.Fatalf("%v, the kernel sends all: %v", err, n.kernel.trace)
	}
	n.fails(n.mustFind("orders", a2), 1)
	n.fails(n.mustFind("orders", a1), 1)
	if l := <-tr.Lines(); l.Circuit != a1 || l.Kind != control.TraceOutcome {
		t.Errorf("%+v", l)
	}
	tr.Close()
	if n.kernel.trace {
		t.Error("the kernel sends all after the last reader")
	}
}

// An agent that is closed shows nothing, applies no orders, and does not use the datapath.
func TestClosed(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(`"` + a1 + `"`))
	n.closed = true
	if s := n.Snapshot(); len(s.Policies) != 0 {
		t.Errorf("%+v", s)
	}
	if done := n.Override(control.Target{}, control.Order{Action: control.ActionOpen}); len(done.Changes) != 0 {
		t.Errorf("%+v", done)
	}
	if _, err := n.Trace(control.Target{}); err == nil {
		t.Error("a trace is opened")
	}
	n.closed = false
}

// Backends at the node's own addresses are known as such when these change, and pods of the node always.
func TestBackendsOfTheNode(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply("version: 1\npolicies:\n- name: orders\n  match: {hosts: [\"one.example:80\"]}\n")
	n.onBackends(discovery.Update{Sets: []discovery.Set{{Policy: "orders", Complete: true, Backends: []discovery.Backend{
		{Addr: netip.MustParseAddrPort("203.0.113.1:80"), Node: "n1", Pod: "p"}, {Addr: netip.MustParseAddrPort("203.0.113.2:80"), Node: "n2", Pod: "p"},
	}}}})
	if f := n.kernel.flags; f[backend("203.0.113.1:80", tables.Outbound)] != tables.LocalPod || f[backend("203.0.113.2:80", tables.Outbound)] != 0 {
		t.Errorf("the flags are %v", f)
	}
}

// Circuits of http policies without a request are logged once.
func TestWarnUnread(t *testing.T) {
	n := newNode(t, newKernel(), nil)
	n.mustApply(ordersOf(both(a1, a2)))
	counts := [tables.Openings]uint64{}
	counts[tables.OpeningTLS] = 4
	n.kernel.openings[n.mustFind("orders", a1).id] = counts
	n.warnUnread(n.now)
	n.warnUnread(n.now + 1)
	if len(n.unread.logged) != 1 || !n.unread.logged[unreadKey{"orders", a1, tables.OpeningTLS}] {
		t.Errorf("logged are %v", n.unread.logged)
	}
}

// An agent runs from the first policies on, reads events, and ends with its context.
func TestRun(t *testing.T) {
	k := newKernel()
	updates := make(chan policy.Update, 3)
	ready := make(chan struct{})
	n := newNode(t, k, func(c *Config) {
		c.Policies, c.Interfaces, c.Connect, c.Lookup = updates, ifaces.Spec{Attach: []string{"no-such-*"}}, "/sys/fs/cgroup", true
		c.Serve = serve.Options{ControlSocket: filepath.Join(t.TempDir(), "control.sock")}
		c.Ready = func() { close(ready) }
	})
	k.fail["Prune"] = true
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	updates <- policy.Update{Err: ErrNotYet}
	set, err := policy.Parse("p.yaml", []byte(ordersOf(both(a1, a2))))
	if err != nil {
		t.Fatal(err)
	}
	updates <- policy.Update{Set: set}
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("it has ended: %v", err)
	case <-time.After(patience):
		t.Fatal("it is not ready")
	}
	n.mu.Lock()
	c := n.mustFind("orders", a1)
	n.mu.Unlock()
	for i := range uint64(3) {
		k.mu.Lock()
		p := k.progress[c.id]
		p.Judged, p.Events, p.Failures = i+1, i+1, i+1
		k.progress[c.id] = p
		k.mu.Unlock()
		at := tables.Now()
		k.events <- ledger.Event{
			Kind: ledger.EventOutcome, Circuit: c.id, Backend: netip.MustParseAddrPort(a1), Generation: 1, At: at, Sent: at, Began: at, Result: 500,
			Judged: true, Failure: true, Ordinal: i, Index: i,
		}
	}
	for deadline := time.Now().Add(patience); k.Published(c.id).Kind != ledger.Open; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the verdict is %+v after three failures", k.Published(c.id))
		}
	}
	updates <- policy.Update{Err: errFake}
	close(updates)
	for deadline := time.Now().Add(patience); n.Snapshot().Agent.ReloadFailures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the failed reload is not shown")
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

// A start fails with an error for each reason for which the agent could not protect any backend.
func TestRunFails(t *testing.T) {
	for name, tc := range map[string]struct {
		first  policy.Update
		change func(*Config, *kernel)
		want   error
	}{
		"policies":  {policy.Update{Err: errFake}, func(*Config, *kernel) {}, errFake},
		"datapath":  {policy.Update{}, func(_ *Config, k *kernel) { k.fail["PutPolicy"] = true }, errFake},
		"interface": {policy.Update{}, func(c *Config, _ *kernel) { c.Interfaces = ifaces.Spec{Attach: []string{"no-such-0"}} }, nil},
		"connect":   {policy.Update{}, func(c *Config, k *kernel) { c.Connect, k.fail["AttachConnect"] = "x", true }, errFake},
		"lookup":    {policy.Update{}, func(c *Config, k *kernel) { c.Lookup, k.fail["AttachLookup"] = true, true }, errFake},
		"pods":      {policy.Update{}, func(c *Config, _ *kernel) { c.PodsCgroup = "/no-such-cgroup" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			updates, k := make(chan policy.Update, 1), newKernel()
			if tc.first.Err == nil {
				set, err := policy.Parse("p.yaml", []byte(ordersOf(`"`+a1+`"`)))
				if err != nil {
					t.Fatal(err)
				}
				tc.first.Set = set
			}
			updates <- tc.first
			n := newNode(t, k, func(c *Config) {
				c.Policies, c.Interfaces = updates, ifaces.Spec{Attach: []string{"no-such-*"}}
				tc.change(c, k)
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := n.Run(ctx); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
