// Package viewtest has a snapshot that tests of what shows one can share.
package viewtest

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

// Incident is an agent in the middle of an incident: no part of the snapshot is empty. Its time is 2026-01-02 03:04:05 UTC.
func Incident(t testing.TB) *view.Snapshot {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	text := `policies:
- name: orders
  match: {addresses: ["192.0.2.7:8080", "192.0.2.8:8080"], hosts: ["orders.example.com:8080"]}
  limits: {maxConnections: 10, maxRequests: 20, maxRequestsPerConnection: 100}
  rateLimit: {limit: 100, burst: 10}
- name: mail
  direction: inbound
  protocol: tcp
  scope: policy
  match: {addresses: ["[2001:db8::25]:25"]}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &view.Snapshot{
		At: at, Clock: int64(time.Hour),
		Agent: view.Agent{
			Version: "v1.2.3", Node: "n1", Started: at.Add(-time.Hour), Ready: true,
			PoliciesLoaded: at.Add(-time.Minute), Reloads: 3, ReloadFailures: 1, ReloadError: "orders.yaml:3:1: no",
			RingEvents: 1000, Recovered: 4, Records: 12, Lost: map[string]uint64{view.SinkHistory: 1, view.SinkLog: 3, view.SinkNotice: 0, view.SinkKubernetes: 2},
			StateBehind: at.Add(-10 * time.Second), StateErr: errors.New("write /run/cbagent/state.json.new: no space left on device"), StateFailures: 8,
			Readers: 2, ReadersRejected: 3, Tracers: 1, ReaderDropped: 7,
			Servers:     []view.Server{{Name: "control", Connections: 3}, {Name: "metrics", Connections: 64, Evicted: 5, Rejected: 2}},
			CircuitsMax: 16384,
			Sweep:       loader.SweepResult{Flows: 9, Took: 2 * time.Millisecond},
		},
		Node: tables.NodeCounts{Flows: 9, MaxFlows: 262144, LostEvents: 5, LeaseExpired: 6},
		Packets: []tables.PacketCounts{
			{Hook: "egress", Action: "pass", Reason: "foreign", Packets: 100},
			{Hook: "egress", Action: "respond", Reason: "open", Packets: 30},
		},
		Sources: []discovery.SourceStatus{
			{Kind: "host", Name: "orders.example.com", Answers: 1, Answered: true, Stale: true, Successes: 3, Failures: 2},
		},
		Interfaces: []view.Interface{
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "eth0"}, Attach: true, Uplink: true, Reason: "leads to other nodes"}, Attached: true, Mode: "tcx"},
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "veth1"}, Attach: true, Reason: "matches veth*"}, Pending: true},
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "dummy0"}, Reason: "carries no traffic of others"}},
		},
	}
	s.Agent.Verdicts.Observe(70 * time.Microsecond)
	s.Agent.Verdicts.Observe(time.Minute)

	var rules breaker.Settings = set.Policies[0].Breaker
	group, err := breaker.NewGroup("orders", rules, 1)
	if err != nil {
		t.Fatal(err)
	}
	now := breaker.Time(s.Clock)
	failing := group.Add("192.0.2.7:8080", 0)
	var events []breaker.Event
	for range 4 {
		_, events = failing.Record(now, &breaker.Outcome{Result: 503, HasLatency: true, Latency: 20 * time.Millisecond}, events)
	}
	_, events = failing.Record(now, &breaker.Outcome{Result: 200, HasLatency: true, Latency: 10 * time.Millisecond}, events)
	if len(events) > 0 {
		t.Fatal("the circuit opened")
	}
	window := failing.Metric(now)
	numbers := view.NewWindow(window)
	value, threshold, until := 5.0, 5.0, at.Add(30*time.Second)
	opening := &view.Record{
		Seq: 12, Time: at.Add(-10 * time.Second), Kind: "transition", Policy: "orders", Direction: "outbound", Backend: "192.0.2.7:8080",
		From: "closed", To: "open", Mode: "enforce", Cause: view.CauseOutcome, Reason: "consecutiveFailures", Value: &value,
		Threshold: &threshold, Window: &numbers, Step: 2, Until: &until, Connections: 3, InFlight: 2, VerdictSeconds: 0.00007,
	}

	busy := tables.Totals{Connections: 3, InFlight: 2, Admitted: 500, Probes: 3, OverAdmitted: 2, Takeovers: 1, Unjudged: 4, LatencySum: 90 * time.Second, RateNext: s.Clock + int64(30*time.Millisecond)}
	busy.Outcomes[breaker.ResultReset], busy.Outcomes[breaker.ResultAborted] = 2, 1
	busy.Outcomes[tables.OutcomeClass(200)], busy.Outcomes[tables.OutcomeClass(500)] = 400, 90
	busy.Outcomes[tables.OutcomeClass(breaker.ResultGRPC(breaker.GRPCUnavailable))] = 7
	busy.Outcomes[breaker.ResultH2Refused], busy.Outcomes[breaker.ResultH2Reset] = 3, 4
	busy.Latency[0], busy.Latency[4], busy.Latency[19] = 100, 380, 10
	busy.Rejected[tables.RejectedOpen][0], busy.Rejected[tables.RejectedOpen][1] = 30, 2
	busy.Rejected[tables.RejectedConnectionLimit][0] = 11
	busy.Rejected[tables.RejectedRateLimit][0] = 12
	busy.Would[tables.RejectedOpen] = 5
	busy.Openings[tables.OpeningTLS], busy.Openings[tables.OpeningPROXY] = 4, 2
	var silent, mail tables.Totals // no request was seen
	silent.Openings[tables.OpeningTLS], silent.Openings[tables.OpeningOther] = 7, 1
	mail.Connections, mail.Admitted, mail.Openings[tables.OpeningOther] = 1, 1, 3

	backend := func(addr string, kind discovery.Kind) discovery.Backend {
		return discovery.Backend{Addr: netip.MustParseAddrPort(addr), Kind: kind, Source: "shop/orders:http", Namespace: "shop", Pod: "orders-1", Node: "n1", Zone: "z"}
	}
	s.Policies = []view.Policy{{
		Policy: set.Policies[0], Complete: true, DiscoveryErr: errors.New("stale"), Known: 3, Ejected: 1,
		Circuits: []view.Circuit{
			{
				ID: 1, Name: "192.0.2.7:8080", Backends: []discovery.Backend{backend("192.0.2.7:8080", discovery.KindService)},
				Status: breaker.Status{State: breaker.StateOpen, Step: 2, Since: now.Add(-10 * time.Second), Until: now.Add(30 * time.Second), Openings: 2, Overflows: 1},
				Metric: window, Totals: busy, Statuses: []view.Status{{Code: 200, Count: 400}, {Code: 503, Count: 90}},
				Transitions: []view.Transition{{From: breaker.StateClosed, To: breaker.StateOpen, Reason: breaker.TripReason(breaker.TripConsecutiveFailures), Count: 2}},
				Last:        opening,
				RejectedAt:  25,
			},
			{
				ID: 2, Name: "192.0.2.8:8080", Backends: []discovery.Backend{backend("192.0.2.8:8080", discovery.KindAddress)},
				Status:   breaker.Status{State: breaker.StateHalfOpen, Step: 1, Until: breaker.Never, Yielded: true},
				Progress: ledger.Progress{Permits: 2, InFlight: 1},
			},
			{
				ID: 3, Name: "192.0.2.9:8080", Backends: []discovery.Backend{backend("192.0.2.9:8080", discovery.KindHost)},
				Totals: silent,
				Status: breaker.Status{
					State: breaker.StateDisabled, Mode: breaker.ModeDisabled, Until: now.Add(9 * time.Minute), Overridden: true,
					Override: breaker.Override{Mode: breaker.ModeDisabled, Since: now.Add(-time.Minute), Until: now.Add(9 * time.Minute), Who: "alice", Why: "load test"},
				},
			},
		},
	}, {
		Policy: set.Policies[1], Known: 1,
		Circuits: []view.Circuit{{
			ID: 4, Name: "*", Backends: []discovery.Backend{backend("[2001:db8::25]:25", discovery.KindAddress)},
			Status: breaker.Status{Until: breaker.Never}, Totals: mail,
		}},
	}}
	return s
}
