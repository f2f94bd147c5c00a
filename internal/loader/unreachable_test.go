package loader

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// unreachable records that the neighbour of circuit 1's backend does not answer, and checks the result.
func (c *conn) unreachable(at int64, ended, unseen int) {
	c.r.t.Helper()
	got, err := c.r.d.RecordUnreachable(at, []tables.Unreachable{{Backend: tables.Backend{Addr: c.backend}, Circuit: 1}})
	if err != nil {
		c.r.t.Fatal(err)
	}
	if want := (UnreachableResult{Ended: ended, Unseen: unseen}); got != want {
		c.r.t.Errorf("recorded %+v, want %+v", got, want)
	}
	var key bpf.CEndpoint
	if err := c.r.d.objs.Unreachables.NextKey(nil, &key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		c.r.t.Errorf("something is left in the map of unreachable backends (%v)", err)
	}
}

func TestRecordUnreachable(t *testing.T) {
	outcome := map[string]uint64{"unreachable": 1}
	tcp := unreachableSettings
	tcp.Protocol, tcp.Reject = tables.TCP, tables.Reset
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		verdict ledger.Verdict
		before  func(c *conn)
		want    want
		events  []string
	}{
		{"nothing was seen", unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) { c.unreachable(tables.Now(), 0, 1) },
			want{Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 1"}},
		{"each failed resolution is an attempt", unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) {
			c.unreachable(tables.Now(), 0, 1)
			c.unreachable(tables.Now(), 0, 1)
		}, want{Judged: 2, Failures: 2, Outcomes: map[string]uint64{"unreachable": 2}},
			[]string{"outcome 10 judged 0 failure generation 1", "outcome 10 judged 1 failure generation 1"}},
		{"a SYN waits", unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) {
			c.send(syn, "")
			c.unreachable(tables.Now(), 1, 0)
			c.r.sweepAt(tables.Now()+int64(4*time.Second), time.Hour) // its time-out is no second outcome
		}, want{Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 1"}},
		{"a SYN waits, tcp", tcp, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) {
			c.send(syn, "")
			c.unreachable(tables.Now(), 1, 0)
		}, want{Admitted: 1, Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 1"}},
		{"a SYN that was sent later", unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) {
			at := tables.Now()
			c.send(syn, "")
			c.unreachable(at, 0, 1)
		}, want{Connections: 1, Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 1"}},
		{"an established connection", unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(c *conn) {
			c.open().ask(get)
			c.unreachable(tables.Now(), 0, 1)
		}, want{Connections: 1, InFlight: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: outcome},
			[]string{"outcome 10 judged 0 failure generation 1"}},
		{"open", unreachableSettings, openFor(time.Minute), func(c *conn) { c.unreachable(tables.Now(), 0, 0) }, want{}, nil},
		{"forced open", unreachableSettings, ledger.Verdict{Kind: ledger.ForcedOpen}, func(c *conn) { c.unreachable(tables.Now(), 0, 0) }, want{}, nil},
		{"disabled", unreachableSettings, ledger.Verdict{Kind: ledger.Disabled}, func(c *conn) { c.unreachable(tables.Now(), 0, 1) },
			want{Unjudged: 1, Outcomes: outcome}, nil},
		{"half-open", unreachableSettings, halfOpen(1, 1), func(c *conn) {
			c.unreachable(tables.Now(), 0, 1)
			c.unreachable(tables.Now(), 0, 0) // no permit is left
		}, want{Probes: 1, Judged: 1, Failures: 1, Permits: 1, Outcomes: outcome},
			[]string{"probe permit generation 2", "outcome 10 judged 0 failure permit generation 2"}},
		{"half-open, a probe waits", unreachableSettings, halfOpen(2, 2), func(c *conn) {
			c.send(syn, "")
			c.unreachable(tables.Now(), 1, 0)
		}, want{Probes: 1, Judged: 1, Failures: 1, Permits: 1, Outcomes: outcome},
			[]string{"probe permit generation 2", "outcome 10 judged 0 failure permit generation 2"}},
		{"half-open without probes", unreachableSettings, halfOpen(0, 0), func(c *conn) { c.unreachable(tables.Now(), 0, 1) },
			want{Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 2"}},
		{"half-open with a ramp", unreachableSettings, ledger.Verdict{
			Kind: ledger.Open, Generation: 1, Until: tables.Now() - int64(time.Second), RampOver: time.Minute, RampFrom: 0.1, RampTo: 1,
		}, func(c *conn) { c.unreachable(tables.Now(), 0, 1) },
			want{Judged: 1, Failures: 1, Outcomes: outcome}, []string{"outcome 10 judged 0 failure generation 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, f := range families {
				t.Run(f.name, func(t *testing.T) {
					r := newRig(t)
					r.put(f.backend, tc.policy, tc.verdict)
					tc.before(r.dial(f.client, f.backend))
					r.wantTotals(tc.want)
					r.wantEvents(tc.events...)
				})
			}
		})
	}
}

// Of a circuit with several backends only the attempts to those that cannot be reached end.
func TestRecordUnreachableOfSomeBackends(t *testing.T) {
	r := newRig(t)
	alive := netip.AddrPortFrom(backendV4.Addr().Next(), backendV4.Port())
	r.put(backendV4, unreachableSettings, ledger.Verdict{Kind: ledger.Closed})
	if err := r.backend(tables.Backend{Addr: alive}, 1, 0); err != nil {
		t.Fatal(err)
	}
	dead, other := r.dial(clientV4, backendV4), r.dial(clientV4, alive)
	for port := range uint16(3) {
		dead.another(41000+port).send(syn, "")
		other.another(42000+port).send(syn, "")
	}
	dead.unreachable(tables.Now(), 3, 0)
	r.wantTotals(want{Connections: 3, Judged: 3, Failures: 3, Outcomes: map[string]uint64{"unreachable": 3}})
}

// A circuit that another backend has taken over meanwhile gets no outcome of the old one.
func TestRecordUnreachableOfAReleasedCircuit(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, unreachableSettings, ledger.Verdict{Kind: ledger.Closed})
	r.d.Release(1)
	r.dial(clientV4, backendV4).unreachable(tables.Now(), 0, 0)
	r.wantTotals(want{})
}

// What an agent leaves in the map when it dies is not recorded once more by the next.
func TestUnreachableBackendsAreNotAdopted(t *testing.T) {
	path := bpffs(t)
	load := func() *Datapath {
		d, err := Load(Options{Circuits: 16, Policies: 16, Answers: 16, Flows: 64, Ring: 4096, PinPath: path})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	key := bpf.CEndpoint{Addr: backendV4.Addr().As16(), PortBe: be16(backendV4.Port())}
	first := load()
	if err := first.objs.Unreachables.Put(key, bpf.CUnreachableBackend{Target: 1}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := load()
	defer func() {
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}()
	if !second.Adopted() {
		t.Fatal("the maps were not adopted")
	}
	if err := second.objs.Unreachables.NextKey(nil, &key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the map of unreachable backends is not empty (%v)", err)
	}
}

// An attempt that no hook saw has no client.
func TestUnseenAttemptHasNoClient(t *testing.T) {
	for _, f := range families {
		r := newRig(t)
		r.put(f.backend, unreachableSettings, ledger.Verdict{Kind: ledger.Closed})
		r.dial(f.client, f.backend).unreachable(tables.Now(), 0, 1)
		all := r.events()
		if len(all) != 1 || all[0].Client.IsValid() || all[0].Backend != f.backend {
			t.Errorf("%s: %+v, want one event of %s without a client", f.name, all, f.backend)
		}
	}
}
