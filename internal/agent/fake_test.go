package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
)

// patience is the time limit of every wait; only a failing test waits so long.
const patience = 10 * time.Second

var errFake = errors.New("the kernel rejects it")

// kernel is a datapath in memory. Its fields are changed under mu, or before the agent runs.
type kernel struct {
	mu          sync.Mutex
	policies    map[int]tables.PolicySettings
	exempt      map[int][]netip.Prefix
	answers     map[int]tables.Answer
	backends    map[tables.Backend]int
	flags       map[tables.Backend]tables.BackendFlags
	hostOn      bool
	networks    []tables.Network
	owners      map[int]uint64
	policyOf    map[int]int
	verdicts    map[int]ledger.Verdict
	progress    map[int]ledger.Progress
	connections map[int]uint64
	openings    map[int][tables.Openings]uint64
	pending     map[int]int64
	expired     uint64
	lease       int64
	trace       bool
	events      chan ledger.Event
	adopted     map[tables.Backend]int // by a former agent, and not put or removed since
	hasAdopted  bool
	hooks       map[string]loader.Hook
	unreachable []tables.Unreachable
	due         int64
	sweeps      int
	fail        map[string]bool // methods
	closed      bool
}

func newKernel() *kernel {
	return &kernel{
		policies: map[int]tables.PolicySettings{}, exempt: map[int][]netip.Prefix{}, answers: map[int]tables.Answer{},
		backends: map[tables.Backend]int{}, flags: map[tables.Backend]tables.BackendFlags{}, owners: map[int]uint64{},
		policyOf: map[int]int{}, verdicts: map[int]ledger.Verdict{}, progress: map[int]ledger.Progress{},
		connections: map[int]uint64{}, openings: map[int][tables.Openings]uint64{}, pending: map[int]int64{},
		events: make(chan ledger.Event, 64), adopted: map[tables.Backend]int{}, hooks: map[string]loader.Hook{}, fail: map[string]bool{},
	}
}

// lock locks, and returns the error that the method is to return.
func (k *kernel) lock(method string) error {
	k.mu.Lock()
	if k.fail[method] {
		return fmt.Errorf("%s: %w", method, errFake)
	}
	return nil
}

func (k *kernel) Attach(name string) (*loader.Hook, error) {
	err := k.lock("Attach")
	defer k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	h := loader.Hook{Name: name}
	k.hooks[name] = h
	return &h, nil
}
func (k *kernel) Detach(int) error { return nil }
func (k *kernel) AttachXDP(string, loader.XDPMode) (loader.XDPMode, error) {
	return loader.XDPGeneric, nil
}
func (k *kernel) DetachXDP(int) error              { return nil }
func (k *kernel) XDPModes() map[int]loader.XDPMode { return nil }
func (k *kernel) SetUplinks([]int) error           { return nil }
func (k *kernel) ForgetInterface(int, time.Duration) (loader.SweepResult, error) {
	return loader.SweepResult{}, nil
}
func (k *kernel) Hooks() []loader.Hook       { return nil }
func (k *kernel) AttachConnect(string) error { defer k.mu.Unlock(); return k.lock("AttachConnect") }
func (k *kernel) AttachLookup() error        { defer k.mu.Unlock(); return k.lock("AttachLookup") }
func (k *kernel) KeepNAT()                   {}
func (k *kernel) RejectAtEntry(bool) error   { return nil }
func (k *kernel) SetPodsCgroup(uint64, int)  {}
func (k *kernel) Prune() error               { defer k.mu.Unlock(); return k.lock("Prune") }

func (k *kernel) Published(circuit int) ledger.Verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.verdicts[circuit]
}

func (k *kernel) SetVerdict(circuit int, v ledger.Verdict) (anew bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.verdicts[circuit]
	k.verdicts[circuit] = v
	if old.Kind == v.Kind && old.Generation == v.Generation {
		return false
	}
	k.progress[circuit] = ledger.Progress{}
	return true
}

func (k *kernel) Progress(circuit int) ledger.Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.progress[circuit]
}

func (k *kernel) Judged(circuit int) (outcomes, events uint64) {
	p := k.Progress(circuit)
	return p.Judged, p.Events
}
func (k *kernel) LostEvents() uint64 { return 0 }
func (k *kernel) EventsWaiting() int { return len(k.events) }

func (k *kernel) PutAnswer(index int, a tables.Answer) error {
	err := k.lock("PutAnswer")
	defer k.mu.Unlock()
	k.answers[index] = a
	return err
}

func (k *kernel) Release(circuit int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.owners, circuit)
}

func (k *kernel) Connections(circuit int) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.connections[circuit]
}
func (k *kernel) ForgetStatuses(map[int]bool) error {
	defer k.mu.Unlock()
	return k.lock("ForgetStatuses")
}

func (k *kernel) SetExemptSources(policy int, sources []netip.Prefix) error {
	err := k.lock("SetExemptSources")
	defer k.mu.Unlock()
	k.exempt[policy] = sources
	return err
}

func (k *kernel) RecordUnreachable(_ int64, all []tables.Unreachable) (loader.UnreachableResult, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unreachable = append(k.unreachable, all...)
	return loader.UnreachableResult{}, nil
}

func (k *kernel) PutPolicy(index int, s tables.PolicySettings) error {
	err := k.lock("PutPolicy")
	defer k.mu.Unlock()
	k.policies[index] = s
	return err
}

func (k *kernel) SetPolicy(circuit, policy int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.policyOf[circuit] = policy
}

func (k *kernel) ResetCircuit(circuit int, owner uint64) error {
	err := k.lock("ResetCircuit")
	defer k.mu.Unlock()
	k.owners[circuit] = owner
	delete(k.verdicts, circuit)
	delete(k.progress, circuit)
	return err
}

func (k *kernel) PutBackend(b tables.Backend, circuit int, flags tables.BackendFlags) error {
	err := k.lock("PutBackend")
	defer k.mu.Unlock()
	k.backends[b], k.flags[b] = circuit, flags
	delete(k.adopted, b)
	return err
}

func (k *kernel) RemoveBackend(b tables.Backend) error {
	err := k.lock("RemoveBackend")
	defer k.mu.Unlock()
	delete(k.backends, b)
	delete(k.adopted, b)
	return err
}
func (k *kernel) SetHostBackends(on bool) { k.mu.Lock(); defer k.mu.Unlock(); k.hostOn = on }

func (k *kernel) SetNetworks(all []tables.Network) error {
	err := k.lock("SetNetworks")
	defer k.mu.Unlock()
	k.networks = all
	return err
}

func (k *kernel) Totals(circuit int) tables.Totals {
	return tables.Totals{Connections: k.Connections(circuit)}
}

func (k *kernel) Openings(circuit int) (counts [tables.Openings]uint64, requests uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.openings[circuit], 0
}

func (k *kernel) Statuses() ([]tables.StatusCount, error) {
	err := k.lock("Statuses")
	defer k.mu.Unlock()
	return []tables.StatusCount{{Circuit: 0, Status: 503, Count: 2}, {Circuit: 0, Status: 200, Count: 7}}, err
}

func (k *kernel) NodeCounts() tables.NodeCounts {
	k.mu.Lock()
	defer k.mu.Unlock()
	return tables.NodeCounts{LeaseExpired: k.expired}
}
func (k *kernel) Packets() ([]tables.PacketCounts, error) {
	defer k.mu.Unlock()
	return nil, k.lock("Packets")
}

func (k *kernel) Adopted() bool { return k.hasAdopted }

func (k *kernel) AdoptedBackends() []tables.AdoptedBackend {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []tables.AdoptedBackend
	for b, circuit := range k.adopted {
		all = append(all, tables.AdoptedBackend{Backend: b, Circuit: circuit})
	}
	return all
}

func (k *kernel) UsedTables() (policies, answers map[int]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	policies, answers = map[int]bool{}, map[int]bool{}
	for index := range k.policies {
		policies[index] = true
	}
	for index := range k.answers {
		answers[index] = true
	}
	return policies, answers
}

func (k *kernel) Owner(circuit int) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.owners[circuit]
}

func (k *kernel) NextEvent(deadline time.Time) (ledger.Event, error) {
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	select {
	case ev := <-k.events:
		return ev, nil
	default:
	}
	select {
	case ev := <-k.events:
		return ev, nil
	case <-timeout.C:
		return ledger.Event{}, tables.ErrNoEvent
	}
}

func (k *kernel) RenewLease(until int64) { k.mu.Lock(); defer k.mu.Unlock(); k.lease = until }
func (k *kernel) SetTrace(on bool)       { k.mu.Lock(); defer k.mu.Unlock(); k.trace = on }

func (k *kernel) Sweep(time.Duration) (loader.SweepResult, error) {
	err := k.lock("Sweep")
	defer k.mu.Unlock()
	k.sweeps++
	return loader.SweepResult{Number: int64(k.sweeps), Due: k.due}, err
}

func (k *kernel) Pending(circuit int, _ int64) (since int64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	since, ok = k.pending[circuit]
	return since, ok
}
func (k *kernel) Close() error { k.mu.Lock(); defer k.mu.Unlock(); k.closed = true; return nil }

// node is an agent on tables in memory, with policies but without interfaces. Its clock starts now and stands still.
type node struct {
	*Agent
	t      *testing.T
	kernel *kernel
	now    int64
}

// newNode returns a node without policies.
func newNode(t *testing.T, k *kernel, change func(*Config)) *node {
	t.Helper()
	n := &node{t: t, kernel: k, now: tables.Now()}
	a, err := newAgent(withDefaults(change), k, func() int64 { return n.now })
	if err != nil {
		t.Fatal(err)
	}
	n.Agent = a
	a.discovery = discovery.New(a.log, discovery.Options{})
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		a.discovery.Close()
	})
	return n
}

// withDefaults returns a configuration that change, if not nil, was applied to.
func withDefaults(change func(*Config)) Config {
	cfg := Config{
		Lease: 10 * time.Second, Idle: time.Hour, Seed: 1, MaxLearned: 3, NodeName: "n1", Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// apply puts policies in force and returns the error.
func (n *node) apply(yaml string) error {
	n.t.Helper()
	set, err := policy.Parse("policies.yaml", []byte(yaml))
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applyPolicies(set)
}

// mustApply puts policies in force.
func (n *node) mustApply(yaml string) {
	n.t.Helper()
	if err := n.apply(yaml); err != nil {
		n.t.Fatal(err)
	}
}

// after advances the clock and runs the periodic work that is due.
func (n *node) after(d time.Duration) {
	n.now += int64(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn(n.now)
}

// find returns the state of a backend's circuit, or nil if there is none.
func (n *node) find(policy, backend string) *circuitState {
	n.t.Helper()
	p := n.policies[policy]
	if p == nil {
		n.t.Fatalf("no policy %s", policy)
	}
	return p.circuits[backend]
}

// mustFind returns the state of a backend's circuit.
func (n *node) mustFind(policy, backend string) *circuitState {
	n.t.Helper()
	c := n.find(policy, backend)
	if c == nil {
		n.t.Fatalf("policy %s has no circuit of %s", policy, backend)
	}
	return c
}

// fails makes a circuit's backend fail so many times.
func (n *node) fails(c *circuitState, times int) {
	n.t.Helper()
	v := n.kernel.Published(c.id)
	for addr := range c.backends {
		for i := range times {
			n.kernel.mu.Lock()
			p := n.kernel.progress[c.id]
			index := p.Events
			p.Judged, p.Events, p.Failures = p.Judged+1, p.Events+1, p.Failures+1
			n.kernel.progress[c.id] = p
			n.kernel.mu.Unlock()
			n.mu.Lock()
			n.onEvent(&ledger.Event{
				Kind: ledger.EventOutcome, Circuit: c.id, Backend: addr, Client: netip.MustParseAddrPort("192.0.2.99:40000"), Generation: v.Generation,
				At: n.now + int64(i), Sent: n.now, Began: n.now, Result: 500, Judged: true, Failure: true, Ordinal: index, Index: index,
			})
			n.mu.Unlock()
		}
		return
	}
}

func backend(addr string, dir tables.Direction) tables.Backend {
	return tables.Backend{Addr: netip.MustParseAddrPort(addr), Direction: dir}
}
