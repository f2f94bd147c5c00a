package loader

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// another returns a connection of another port of the same client.
func (c *conn) another(port uint16) *conn {
	o := *c
	o.client, o.seq, o.ack = netipPort(c.client, port), 1000, 0
	return &o
}

// kinds formats events by their kinds.
func kinds(events []ledger.Event) []string {
	names := map[ledger.EventKind]string{ledger.EventOutcome: "outcome", ledger.EventProbe: "probe", ledger.EventReturn: "return", ledger.EventLearn: "learn"}
	var all []string
	for _, e := range events {
		s := names[e.Kind]
		if e.Kind == ledger.EventOutcome {
			s = fmt.Sprintf("%s %d", s, e.Result)
		}
		if e.Judged {
			s += fmt.Sprintf(" judged %d", e.Ordinal)
		}
		if e.Failure {
			s += " failure"
		}
		if e.Slow {
			s += " slow"
		}
		if e.Permit {
			s += " permit"
		}
		all = append(all, fmt.Sprintf("%s generation %d", s, e.Generation))
	}
	return all
}

func (r *rig) wantEvents(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, kinds(r.events()), cmpopts.EquateEmpty()); diff != "" {
		r.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// halfOpen is the verdict of a circuit that has been half-open for a second; its half-open generation is 2.
func halfOpen(calls, concurrent uint32) ledger.Verdict {
	return ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() - int64(time.Second), Calls: calls, Concurrent: concurrent}
}

func TestHalfOpenPermits(t *testing.T) {
	http := tables.PolicySettings{Existing: true}
	tcp := tables.PolicySettings{Protocol: tables.TCP, Reject: tables.Reset, Existing: true}
	rejected := map[string]uint64{"half-open respond": 1}
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		verdict ledger.Verdict
		run     func(c *conn)
		want    want
		events  []string
	}{
		{"a request inherits its connection's", http, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.answer(ok)
		}, want{
			Connections: 1, Admitted: 1, Probes: 1, Judged: 1, Permits: 1, Outcomes: map[string]uint64{"2xx": 1},
		}, []string{"probe permit generation 2", "outcome 200 judged 0 permit generation 2"}},
		{"each later request needs its own", http, halfOpen(2, 1), func(c *conn) {
			c.connect("probe")
			for range 2 {
				c.passed(c.send(psh|ack, get), c.hookOut, "probe")
				c.answer(ok)
			}
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond half-open")
		}, want{
			Admitted: 2, Probes: 2, Judged: 2, Permits: 2, Rejected: rejected, Outcomes: map[string]uint64{"2xx": 2},
		}, []string{
			"probe permit generation 2", "outcome 200 judged 0 permit generation 2",
			"probe permit generation 2", "outcome 200 judged 1 permit generation 2",
		}},
		{"so many at once", http, halfOpen(3, 2), func(c *conn) {
			other := c.another(41000)
			c.connect("probe")
			other.connect("probe")
			third := c.another(42000)
			third.answeredSYN("half-open")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.answer(failed)
			third = c.another(43000)
			third.connect("probe")
			fourth := c.another(44000)
			fourth.answeredSYN("half-open")
			fourth.did(fourth.send(psh|ack, get), c.answers, c.hookOut+" respond half-open")
		}, want{
			Connections: 3, Admitted: 1, Probes: 3, Judged: 1, Failures: 1, Permits: 3, PermitsOut: 2, Rejected: rejected,
			Outcomes: map[string]uint64{"5xx": 1},
		}, []string{
			"probe permit generation 2", "probe permit generation 2", "outcome 500 judged 0 failure permit generation 2",
			"probe permit generation 2",
		}},
		{"closed without a request, it is given back", http, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.end()
			c = c.another(41000)
			c.connect("probe")
		}, want{Connections: 1, Probes: 2, Permits: 1, PermitsOut: 1},
			[]string{"probe permit generation 2", "return permit generation 2", "probe permit generation 2"}},
		{"reset without a request, it is given back", http, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, want{Probes: 1}, []string{"probe permit generation 2", "return permit generation 2"}},
		{"an ignored outcome gives it back", http, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, want{
			Admitted: 1, Probes: 1, Unjudged: 1, Outcomes: map[string]uint64{"aborted": 1},
		}, []string{"probe permit generation 2", "outcome 6 permit generation 2"}},
		{"a connection that is rejected uses it up", http, halfOpen(1, 1), func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "probe")
			c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, "flow")
		}, want{
			Probes: 1, Judged: 1, Failures: 1, Permits: 1, Outcomes: map[string]uint64{"connect-refused": 1},
		}, []string{"probe permit generation 2", "outcome 2 judged 0 failure permit generation 2"}},
		{"a SYN that is repeated takes no second", http, halfOpen(2, 2), func(c *conn) {
			s := c.segment(syn, "")
			c.passed(c.send(syn, ""), c.hookOut, "probe")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
		}, want{Connections: 1, Probes: 1, Permits: 1, PermitsOut: 1}, []string{"probe permit generation 2"}},
		{"no calls: all are admitted and judged", http, halfOpen(0, 0), func(c *conn) {
			c.open().ask(get)
			c.answer(failed)
		}, want{
			Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"5xx": 1},
		}, []string{"outcome 500 judged 0 failure generation 2"}},
		{"tcp: one connection", tcp, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			other := c.another(41000)
			c.did(other.send(syn, ""), c.answers, c.hookOut+" reset half-open")
		}, want{
			Connections: 1, Admitted: 1, Probes: 1, Judged: 1, Permits: 1, Rejected: map[string]uint64{"half-open reset": 1},
			Outcomes: map[string]uint64{"connected": 1},
		}, []string{"probe permit generation 2", "outcome 1 judged 0 permit generation 2"}},
		{"tcp: its SYN-ACK goes another way", tcp, halfOpen(1, 1), func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "probe")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
		}, want{
			Connections: 1, Admitted: 1, Probes: 1, Judged: 1, Permits: 1, Outcomes: map[string]uint64{"connected": 1},
		}, []string{"probe permit generation 2", "outcome 1 judged 0 permit generation 2"}},
		{"a limit comes before it", tables.PolicySettings{MaxConnections: 1, Existing: true}, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			other := c.another(41000)
			other.answeredSYN("connection-limit")
		}, want{Connections: 1, Probes: 1, Permits: 1, PermitsOut: 1}, []string{"probe permit generation 2"}},
		{"a limit takes none", tables.PolicySettings{MaxRequests: 1, Existing: true}, halfOpen(9, 9), func(c *conn) {
			other := c.another(41000)
			c.connect("probe")
			other.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			other.did(other.send(psh|ack, get), c.answers, c.hookOut+" respond request-limit")
		}, want{
			Connections: 1, InFlight: 1, Admitted: 1, Probes: 2, Permits: 1, PermitsOut: 1,
			Rejected: map[string]uint64{"request-limit respond": 1},
		}, []string{"probe permit generation 2", "probe permit generation 2", "return permit generation 2"}},
		{"monitor: without a permit not judged", http, func() ledger.Verdict {
			v := halfOpen(1, 1)
			v.Monitor = true
			return v
		}(), func(c *conn) {
			other := c.another(41000)
			c.connect("probe")
			other.connect("monitored")
			other.passed(other.send(psh|ack, get), c.hookOut, "monitored")
			other.answer(failed)
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.answer(ok)
		}, want{
			Connections: 2, Admitted: 2, Probes: 1, Judged: 1, Unjudged: 1, Permits: 1, Would: map[string]uint64{"half-open": 1},
			Outcomes: map[string]uint64{"2xx": 1, "5xx": 1},
		}, []string{"probe permit generation 2", "outcome 200 judged 0 permit generation 2"}},
		{"existing off: an open connection without a permit is not judged", tables.PolicySettings{}, halfOpen(1, 1), func(c *conn) {
			c.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.answer(ok)
			c.ask(get)
			c.answer(failed)
		}, want{
			Connections: 1, Admitted: 2, Probes: 1, Judged: 1, Unjudged: 1, Permits: 1, Outcomes: map[string]uint64{"2xx": 1, "5xx": 1},
		}, []string{"probe permit generation 2", "outcome 200 judged 0 permit generation 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, tc.verdict, func(t *testing.T, c *conn) {
				tc.run(c)
				c.r.wantTotals(tc.want)
				c.r.wantEvents(tc.events...)
			})
		})
	}
}

// An outcome belongs to the generation in which its request was let through.
func TestGenerations(t *testing.T) {
	for _, tc := range []struct {
		name   string
		run    func(c *conn)
		want   want // since the last verdict, as far as judging goes
		events []string
	}{
		{"answered after the circuit opened", func(c *conn) {
			c.open().ask(get)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() + int64(time.Minute)})
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}}, nil},
		{"answered in half-open", func(c *conn) {
			c.open().ask(get)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: 1, Calls: 1, Concurrent: 1})
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}}, nil},
		{"answered after the circuit closed again", func(c *conn) {
			c.open().ask(get)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 4})
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}}, nil},
		{"asked and answered in half-open's generation, which is closed", func(c *conn) {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: 1, Calls: 1, Concurrent: 1})
			c.connect("probe")
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 4})
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Probes: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}},
			[]string{"probe permit generation 3"}},
		{"a permit of another generation is not inherited", func(c *conn) {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: 1, Calls: 1, Concurrent: 1})
			c.connect("probe")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 4})
			c.ask(get)
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Probes: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"5xx": 1}},
			[]string{"probe permit generation 3", "outcome 500 judged 0 failure generation 4"}},
		{"a permit of another generation is not given back", func(c *conn) {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: 1, Calls: 1, Concurrent: 1})
			c.connect("probe")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 4, Until: 1, Calls: 1, Concurrent: 1})
			other := c.another(41000)
			other.connect("probe")
			c.end()
		}, want{Connections: 1, Probes: 2, Permits: 1, PermitsOut: 1},
			[]string{"probe permit generation 3", "probe permit generation 5", "return permit generation 3"}},
		{"disabled: nothing is judged", func(c *conn) {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Disabled, Generation: 2})
			c.open().ask(get)
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}}, nil},
		{"let through before it was disabled", func(c *conn) {
			c.open().ask(get)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Disabled, Generation: 1})
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}}, nil},
		{"a request on a connection of an earlier generation", func(c *conn) {
			c.open()
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			c.ask(get)
			c.answer(failed)
		}, want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"5xx": 1}},
			[]string{"outcome 500 judged 0 failure generation 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				tc.run(c)
				c.r.wantTotals(tc.want)
				c.r.wantEvents(tc.events...)
			})
		})
	}
}

func TestMonitor(t *testing.T) {
	open := ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: 1 << 62, Monitor: true}
	forced := ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1, Monitor: true}
	closed := ledger.Verdict{Kind: ledger.Closed, Generation: 1, Monitor: true}
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		verdict ledger.Verdict
		run     func(c *conn)
		want    want
	}{
		{"open: one per request", tables.PolicySettings{Existing: true}, open, func(c *conn) {
			c.connect("monitored")
			for range 3 {
				c.passed(c.send(psh|ack, get), c.hookOut, "monitored")
				c.answer(ok)
			}
		}, want{
			Connections: 1, Admitted: 3, Unjudged: 3, Would: map[string]uint64{"open": 3}, Outcomes: map[string]uint64{"2xx": 3},
		}},
		{"forced open, tcp: one per connection", tables.PolicySettings{Protocol: tables.TCP, Existing: true}, forced, func(c *conn) {
			c.connect("monitored")
			for range 3 {
				c.passed(c.send(psh|ack, get), c.hookOut, "flow")
				c.recv(psh|ack, ok)
			}
		}, want{
			Connections: 1, Admitted: 1, Unjudged: 1, Would: map[string]uint64{"forced-open": 1},
			Outcomes: map[string]uint64{"connected": 1},
		}},
		{"opened later, tcp: one per connection", tables.PolicySettings{Protocol: tables.TCP, Existing: true}, closed, func(c *conn) {
			c.open()
			c.r.d.SetVerdict(1, forced)
			c.passed(c.send(psh|ack, get), c.hookOut, "monitored")
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
		}, want{
			Connections: 1, Admitted: 1, Would: map[string]uint64{"forced-open": 1}, Outcomes: map[string]uint64{"connected": 1},
		}},
		{"connection limit: not again at the request", tables.PolicySettings{MaxConnections: 1}, closed, func(c *conn) {
			c.open()
			other := c.another(41000)
			other.connect("monitored")
			c.r.d.SetVerdict(1, forced)
			other.passed(other.send(psh|ack, get), c.hookOut, "monitored")
			other.answer(ok)
			other.passed(other.send(psh|ack, get), c.hookOut, "monitored")
			other.answer(ok)
		}, want{
			Connections: 2, Admitted: 2, Unjudged: 2, Would: map[string]uint64{"connection-limit": 1, "forced-open": 1},
			Outcomes: map[string]uint64{"2xx": 2},
		}},
		{"connection limit of an open circuit: at the request only", tables.PolicySettings{MaxConnections: 1}, forced, func(c *conn) {
			c.connect("monitored")
			other := c.another(41000)
			other.connect("monitored")
			other.passed(other.send(psh|ack, get), c.hookOut, "monitored")
		}, want{Connections: 2, Admitted: 1, InFlight: 1, Would: map[string]uint64{"forced-open": 1}}},
		{"all limits at once: one", tables.PolicySettings{
			MaxRequests: 1, MaxRequestsPerConnection: 1, RateLimit: 1, RatePeriod: time.Hour, RateBurst: 1,
		}, closed, func(c *conn) {
			other := c.another(41000)
			c.open().ask(get)
			c.answer(ok)
			other.open()
			other.passed(other.send(psh|ack, get), c.hookOut, "monitored")
			c.passed(c.send(psh|ack, get), c.hookOut, "monitored")
		}, want{
			Connections: 2, Admitted: 3, InFlight: 2, Judged: 1, Would: map[string]uint64{"connection-limit": 1, "rate-limit": 1},
			Outcomes: map[string]uint64{"2xx": 1},
		}},
		{"rate limit, tcp", tables.PolicySettings{Protocol: tables.TCP, RateLimit: 1, RatePeriod: time.Hour, RateBurst: 1, MaxConnections: 1}, closed,
			func(c *conn) {
				c.open()
				other := c.another(41000)
				other.connect("monitored")
			}, want{
				Connections: 2, Admitted: 2, Judged: 2, Would: map[string]uint64{"connection-limit": 1},
				Outcomes: map[string]uint64{"connected": 2},
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, tc.verdict, func(t *testing.T, c *conn) {
				tc.run(c)
				c.r.wantTotals(tc.want)
			})
		})
	}
}

func TestLease(t *testing.T) {
	for _, v := range []ledger.Verdict{{Kind: ledger.ForcedOpen, Generation: 1}, {Kind: ledger.Open, Generation: 1, Until: 1 << 62}} {
		everywhere(t, tables.PolicySettings{Existing: true}, v, func(t *testing.T, c *conn) {
			before := c.r.d.NodeCounts().LeaseExpired
			c.r.d.RenewLease(tables.Now())
			c.connect("lease-expired")
			c.passed(c.send(psh|ack, get), c.hookOut, "lease-expired")
			c.answer(failed)
			c.r.wantTotals(want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"5xx": 1}})
			if n := c.r.d.NodeCounts().LeaseExpired - before; n != 1 {
				t.Errorf("%d were admitted because the lease had expired, expected 1", n)
			}
			c.r.d.RenewLease(tables.Now() + int64(time.Minute))
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond "+map[ledger.Kind]string{ledger.ForcedOpen: "forced-open", ledger.Open: "open"}[v.Kind])
		})
	}
}

// Limits go on without a lease.
func TestLimitsWithoutALease(t *testing.T) {
	everywhere(t, tables.PolicySettings{MaxConnections: 1}, ledger.Verdict{Kind: ledger.ForcedOpen}, func(t *testing.T, c *conn) {
		c.r.d.RenewLease(0)
		c.connect("lease-expired")
		c.another(41000).answeredSYN("connection-limit")
	})
}

func TestExemptClients(t *testing.T) {
	for _, tc := range []struct {
		name   string
		v4, v6 string
		exempt bool
	}{
		{"the client", "192.0.2.10/32", "2001:db8:1::10/128", true},
		{"its network", "192.0.2.0/24", "2001:db8:1::/48", true},
		{"all clients", "0.0.0.0/0", "::/0", true},
		{"its neighbour", "192.0.2.11/32", "2001:db8:1::11/128", false},
	} {
		for i, f := range families {
			t.Run(tc.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, tables.PolicySettings{ExemptSome: true, Existing: true}, ledger.Verdict{Kind: ledger.ForcedOpen})
				prefix := netip.MustParsePrefix([]string{tc.v4, tc.v6}[i])
				if err := r.d.SetExemptSources(1, []netip.Prefix{prefix}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := r.d.SetExemptSources(1, nil); err != nil {
						t.Error(err)
					}
				})
				c := r.dial(f.client, f.backend)
				if !tc.exempt {
					c.answeredSYN("forced-open")
					return
				}
				c.passed(c.send(syn, ""), "egress", "exempt")
				c.ack = 5001
				c.passed(c.recvAt(5000, syn|ack, ""), "ingress", "untracked")
				c.passed(c.send(ack, ""), "egress", "untracked")
				c.passed(c.send(psh|ack, get), "egress", "exempt")
				c.passed(c.recv(psh|ack, failed), "ingress", "untracked")
				c.passed(c.send(fin|ack, ""), "egress", "untracked")
				r.wantTotals(want{})
			})
		}
	}
}

func TestTheNodesOwnHealthChecks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		flags   tables.BackendFlags
		entered uint32
		pods    uint64
		exempt  bool
	}{
		{"a host process to a pod of this node", tables.PolicySettings{ExemptNode: true}, tables.LocalPod, 0, 12345, true},
		{"a pod to a pod of this node", tables.PolicySettings{ExemptNode: true}, tables.LocalPod, 5, 12345, false},
		{"a host process to another backend", tables.PolicySettings{ExemptNode: true}, 0, 0, 12345, false},
		{"not on Kubernetes", tables.PolicySettings{ExemptNode: true}, tables.LocalPod, 0, 0, false},
		{"switched off", tables.PolicySettings{}, tables.LocalPod, 0, 12345, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			tc.policy.Existing = true
			r.put(backendV4, tc.policy, ledger.Verdict{Kind: ledger.ForcedOpen})
			if err := r.d.PutBackend(tables.Backend{Addr: backendV4}, 1, tc.flags); err != nil {
				t.Fatal(err)
			}
			r.d.SetPodsCgroup(tc.pods, 1)
			t.Cleanup(func() { r.d.SetPodsCgroup(0, 0) })
			c := r.dial(clientV4, backendV4)
			c.ctx.IngressIfindex = tc.entered
			if tc.exempt {
				c.passed(c.send(syn, ""), "egress", "exempt")
				c.passed(c.send(psh|ack, get), "egress", "exempt")
				return
			}
			c.answeredSYN("forced-open")
		})
	}
}

func TestDirections(t *testing.T) {
	for _, f := range families {
		for _, tc := range []struct {
			name     string
			policies []tables.Direction
			entered  uint32
			reason   string // of the SYN
			circuit  int
		}{
			{"outbound policy, client on this node", []tables.Direction{tables.Outbound}, 0, "admitted", 1},
			{"outbound policy, client in a pod", []tables.Direction{tables.Outbound}, 5, "admitted", 1},
			{"outbound policy, client elsewhere", []tables.Direction{tables.Outbound}, uplinkIndex, "remote", 0},
			{"inbound policy, client on this node", []tables.Direction{tables.Inbound}, 0, "foreign", 0},
			{"inbound policy, client in a pod", []tables.Direction{tables.Inbound}, 5, "foreign", 0},
			{"inbound policy, client elsewhere", []tables.Direction{tables.Inbound}, uplinkIndex, "admitted", 1},
			{"both, client on this node", []tables.Direction{tables.Inbound, tables.Outbound}, 0, "admitted", 2},
			{"both, client elsewhere", []tables.Direction{tables.Inbound, tables.Outbound}, uplinkIndex, "admitted", 1},
		} {
			t.Run(tc.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				for i, dir := range tc.policies {
					if err := r.putAt(i+1, f.backend, tables.PolicySettings{Direction: dir}, ledger.Verdict{Kind: ledger.Closed}); err != nil {
						t.Fatal(err)
					}
				}
				c := r.dial(f.client, f.backend)
				c.ctx.IngressIfindex = tc.entered
				c.passed(c.send(syn, ""), "egress", tc.reason)
				for i := range tc.policies {
					w := want{}
					if i+1 == tc.circuit {
						w.Connections = 1
					}
					if diff := cmp.Diff(w, r.totals(i+1)); diff != "" {
						t.Errorf("circuit %d (-want +got):\n%s", i+1, diff)
					}
				}
				if tc.circuit == 0 {
					c.passed(c.send(ack, ""), "egress", tc.reason)
					c.passed(c.send(psh|ack, get), "egress", tc.reason)
					c.passed(c.recv(syn|ack, ""), "ingress", "untracked")
				}
			})
		}
	}
}

// On the way in only the node's own addresses are backends: others are met on their way out.
func TestIngressLooksAtTheNodesOwnBackendsOnly(t *testing.T) {
	for _, tc := range []struct {
		name  string
		host  bool // some backend is an address of the node
		flags tables.BackendFlags
		want  func(c *conn, res result)
	}{
		{"no host backends", false, 0, func(c *conn, res result) { c.passed(res, "ingress", "foreign") }},
		{"another backend is on the host", true, 0, func(c *conn, res result) { c.passed(res, "ingress", "foreign") }},
		{"it is on the host", true, tables.OnHost, func(c *conn, res result) {
			c.did(res, verdictRedirect, "ingress respond forced-open")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.ForcedOpen})
			if err := r.d.PutBackend(tables.Backend{Addr: backendV4}, 1, tc.flags); err != nil {
				t.Fatal(err)
			}
			r.d.SetHostBackends(tc.host)
			c := r.dial(clientV4, backendV4)
			c.out = r.d.objs.Ingress
			tc.want(c, c.send(syn, ""))
			r.wantTotals(want{})
		})
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy tables.PolicySettings
		run    func(c *conn)
		want   want
	}{
		{"maxConnections", tables.PolicySettings{MaxConnections: 2}, func(c *conn) {
			a, b := c.another(41001), c.another(41002)
			a.open()
			b.open()
			rejected := c.another(41003)
			rejected.answeredSYN("connection-limit")
			rejected.did(rejected.send(psh|ack, get), c.answers, c.hookOut+" respond connection-limit")
			a.end()
			c.open()
			c.another(41004).answeredSYN("connection-limit")
			b.passed(b.recv(rst, ""), c.hookIn, "flow")
			c.another(41005).open()
		}, want{Connections: 2, Rejected: map[string]uint64{"connection-limit respond": 1}}},
		{"maxConnections: refused by the backend", tables.PolicySettings{MaxConnections: 1}, func(c *conn) {
			for port := uint16(41000); port < 41005; port++ {
				o := c.another(port)
				o.passed(o.send(syn, ""), c.hookOut, "admitted")
				o.passed(o.recvAt(0, rst|ack, ""), c.hookIn, "flow")
			}
		}, want{Judged: 5, Failures: 5, Outcomes: map[string]uint64{"connect-refused": 5}}},
		{"maxConnections, tcp", tables.PolicySettings{MaxConnections: 1, Protocol: tables.TCP, Reject: tables.Reset}, func(c *conn) {
			c.open()
			c.did(c.another(41000).send(syn, ""), c.answers, c.hookOut+" reset connection-limit")
		}, want{
			Connections: 1, Admitted: 1, Judged: 1, Rejected: map[string]uint64{"connection-limit reset": 1},
			Outcomes: map[string]uint64{"connected": 1},
		}},
		{"maxConnections does not end what is open", tables.PolicySettings{MaxConnections: 1, Existing: true}, func(c *conn) {
			for port := uint16(41000); port < 41003; port++ {
				o := c.another(port)
				o.passed(o.send(ack, get), c.hookOut, "admitted")
			}
			c.answeredSYN("connection-limit")
		}, want{Connections: 3, Admitted: 3, InFlight: 3}},
		{"maxRequests", tables.PolicySettings{MaxRequests: 1}, func(c *conn) {
			o := c.another(41000)
			c.open().ask(get)
			o.open()
			o.did(o.send(psh|ack, get), c.answers, c.hookOut+" respond request-limit")
			c.answer(ok)
			o = c.another(41001)
			o.open().ask(get)
			o.answer(ok)
		}, want{
			Connections: 2, Admitted: 2, Judged: 2, Rejected: map[string]uint64{"request-limit respond": 1},
			Outcomes: map[string]uint64{"2xx": 2},
		}},
		{"maxRequestsPerConnection", tables.PolicySettings{MaxRequestsPerConnection: 2}, func(c *conn) {
			c.open()
			for range 2 {
				c.ask(get)
				c.answer(ok)
			}
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond connection-limit")
			c = c.another(41000)
			c.open().ask(get)
			c.answer(ok)
		}, want{
			Connections: 1, Admitted: 3, Judged: 3, Rejected: map[string]uint64{"connection-limit respond": 1},
			Outcomes: map[string]uint64{"2xx": 3},
		}},
		{"rateLimit", tables.PolicySettings{RateLimit: 1, RatePeriod: time.Hour, RateBurst: 3}, func(c *conn) {
			c.open()
			for range 3 {
				c.ask(get)
				c.answer(ok)
			}
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond rate-limit")
		}, want{
			Admitted: 3, Judged: 3, Rejected: map[string]uint64{"rate-limit respond": 1}, Outcomes: map[string]uint64{"2xx": 3},
		}},
		{"rateLimit, tcp", tables.PolicySettings{RateLimit: 1, RatePeriod: time.Hour, RateBurst: 1, Protocol: tables.TCP, Reject: tables.Drop}, func(c *conn) {
			c.open()
			c.did(c.another(41000).send(syn, ""), verdictDrop, c.hookOut+" drop rate-limit")
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
		}, want{
			Connections: 1, Admitted: 1, Judged: 1, Rejected: map[string]uint64{"rate-limit drop": 1},
			Outcomes: map[string]uint64{"connected": 1},
		}},
		{"what is rejected takes nothing", tables.PolicySettings{
			MaxConnections: 9, MaxRequests: 1, RateLimit: 1, RatePeriod: time.Hour, RateBurst: 2,
		}, func(c *conn) {
			c.open().ask(get)
			for port := uint16(41000); port < 41005; port++ {
				o := c.another(port)
				o.open()
				o.did(o.send(psh|ack, get), c.answers, c.hookOut+" respond request-limit")
			}
			c.answer(ok)
			c.ask(get)
			c.answer(ok)
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond rate-limit")
		}, want{
			Admitted: 2, Judged: 2, Rejected: map[string]uint64{"request-limit respond": 5, "rate-limit respond": 1},
			Outcomes: map[string]uint64{"2xx": 2},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				tc.run(c)
				c.r.wantTotals(tc.want)
			})
		})
	}
}

func TestFullTable(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy tables.PolicySettings
		flows  uint64
		check  func(c *conn)
	}{
		{"room", tables.PolicySettings{}, flowMax - flowReserve - 1, func(c *conn) { c.open() }},
		{"full: passes unobserved", tables.PolicySettings{}, flowMax - flowReserve, func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "table-full")
			c.r.wantTotals(want{})
		}},
		{"full, joined: passes unobserved", tables.PolicySettings{}, flowMax - flowReserve, func(c *conn) {
			c.passed(c.send(psh|ack, get), c.hookOut, "table-full")
			c.r.wantTotals(want{})
		}},
		{"full, limited: the reserve", tables.PolicySettings{MaxConnections: 5}, flowMax - flowReserve, func(c *conn) { c.open() }},
		{"reserve full, limited: rejected", tables.PolicySettings{MaxConnections: 5}, flowMax, func(c *conn) {
			c.answeredSYN("table-full")
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond connection-limit")
			c.r.wantTotals(want{Rejected: map[string]uint64{"connection-limit respond": 1}})
		}},
		{"reserve full, probe: rejected", tables.PolicySettings{Reject: tables.Reset}, flowMax, func(c *conn) {
			c.r.d.SetVerdict(1, halfOpen(1, 1))
			c.did(c.send(syn, ""), c.answers, c.hookOut+" reset table-full")
			c.r.wantTotals(want{Rejected: map[string]uint64{"connection-limit reset": 1}})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				change(t, c.r.d.objs.Node, 0, func(n *bpf.CNodeState) { n.FlowCount = tc.flows })
				tc.check(c)
			})
		})
	}
}
