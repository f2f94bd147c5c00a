package metrics

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// snapshot is an agent in the middle of an incident: every series has something to tell.
func snapshot(t *testing.T) *view.Snapshot {
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
			RingEvents: 1000, MadeGood: 4, Records: 12, RecordsLost: 1, Readers: 2, Tracers: 1, ReaderDropped: 7, CircuitsMax: 16384,
			Sweep: loader.SweepResult{Flows: 9, Took: 2 * time.Millisecond},
		},
		Node: loader.NodeCounts{Flows: 9, MaxFlows: 262144, LostEvents: 5, LeaseExpired: 6},
		Packets: []loader.PacketCounts{
			{Hook: "egress", Action: "pass", Reason: "foreign", Packets: 100},
			{Hook: "egress", Action: "respond", Reason: "open", Packets: 30},
		},
		Sources: []discovery.SourceStatus{
			{Kind: "host", Name: "orders.example.com", Answers: 1, Answered: true, Stale: true, Successes: 3, Failures: 2},
		},
		Interfaces: []view.Interface{
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "eth0"}, Attach: true, Uplink: true}, Attached: true, Mode: "tcx"},
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "veth1"}, Attach: true}, Pending: true},
			{Pick: ifaces.Pick{Link: ifaces.Link{Name: "dummy0"}}},
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

	busy := loader.Totals{Connections: 3, InFlight: 2, Admitted: 500, Probes: 3, Unjudged: 4, LatencySum: 90 * time.Second, RateNext: s.Clock + int64(30*time.Millisecond)}
	busy.Outcomes[breaker.ResultReset], busy.Outcomes[breaker.ResultAborted] = 2, 1
	busy.Outcomes[8+1], busy.Outcomes[8+4] = 400, 90 // 2xx, 5xx
	busy.Latency[0], busy.Latency[4], busy.Latency[19] = 100, 380, 10
	busy.Refused[loader.RefusedOpen][0], busy.Refused[loader.RefusedOpen][1] = 30, 2
	busy.Refused[loader.RefusedConnectionLimit][0] = 11
	busy.Refused[loader.RefusedRateLimit][0] = 12
	busy.Would[loader.RefusedOpen] = 5

	backend := func(addr string, kind discovery.Kind) discovery.Backend {
		return discovery.Backend{Addr: netip.MustParseAddrPort(addr), Kind: kind, Source: "shop/orders:http", Namespace: "shop", Pod: "orders-1", Node: "n1", Zone: "z"}
	}
	s.Policies = []view.Policy{{
		Policy: set.Policies[0], Complete: true, DiscoveryErr: errors.New("stale"), Known: 3, Ejected: 2,
		Circuits: []view.Circuit{
			{
				ID: 1, Name: "192.0.2.7:8080", Backends: []discovery.Backend{backend("192.0.2.7:8080", discovery.KindService)},
				Status: breaker.Status{State: breaker.StateOpen, Step: 2, Until: now.Add(30 * time.Second), Openings: 2, Overflows: 1},
				Metric: window, Totals: busy, Statuses: []view.Status{{Code: 200, Count: 400}, {Code: 503, Count: 90}},
				Transitions: []view.Transition{{From: breaker.StateClosed, To: breaker.StateOpen, Reason: breaker.TripReason(breaker.TripConsecutiveFailures), Count: 2}},
			},
			{
				ID: 2, Name: "192.0.2.8:8080", Backends: []discovery.Backend{backend("192.0.2.8:8080", discovery.KindAddress)},
				Status:   breaker.Status{State: breaker.StateHalfOpen, Step: 1, Until: breaker.Never},
				Progress: loader.Progress{Permits: 2, InFlight: 1},
			},
			{
				ID: 3, Name: "192.0.2.9:8080", Backends: []discovery.Backend{backend("192.0.2.9:8080", discovery.KindHost)},
				Status: breaker.Status{
					State: breaker.StateDisabled, Until: breaker.Never, Overridden: true, Override: breaker.Override{Mode: breaker.ModeDisabled},
				},
			},
		},
	}, {
		Policy: set.Policies[1], Known: 1,
		Circuits: []view.Circuit{{
			ID: 4, Name: "*", Backends: []discovery.Backend{backend("[2001:db8::25]:25", discovery.KindAddress)},
			Status: breaker.Status{Until: breaker.Never}, Totals: loader.Totals{Connections: 1, Admitted: 1},
		}},
	}}
	return s
}

func text(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	// The library's own merging refuses what is inconsistent, such as one series twice.
	families, err := prometheus.Gatherers{g}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what comes out (go test ./internal/metrics -update writes it anew) (-want +got):\n%s", path, diff)
	}
}

var goversion = regexp.MustCompile(`goversion="[^"]*"`)

func TestWholeSet(t *testing.T) {
	s := snapshot(t)
	g := New(func() *view.Snapshot { return s }, 100, false)
	compare(t, "testdata/metrics.prom", goversion.ReplaceAllString(text(t, g), `goversion="go"`))
}

func TestEverySeriesIsInTheFixture(t *testing.T) {
	s := snapshot(t)
	names := map[string]bool{}
	for _, circuits := range []int{100, 2} {
		families, err := New(func() *view.Snapshot { return s }, circuits, false).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			names[f.GetName()] = true
		}
	}
	for _, d := range Descriptions() {
		if !names[d.Name] {
			t.Errorf("%s is described, and no test sees it", d.Name)
		}
		delete(names, d.Name)
	}
	if len(names) > 0 {
		t.Errorf("not described: %v", names)
	}
}

func TestNamesAreGood(t *testing.T) {
	s := snapshot(t)
	problems, err := testutil.GatherAndLint(New(func() *view.Snapshot { return s }, 100, false))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEverySeriesOfACircuitHasADirection(t *testing.T) {
	s := snapshot(t)
	families, err := New(func() *view.Snapshot { return s }, 100, false).Gather()
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{}
	for _, d := range Descriptions() {
		of[d.Name] = d.Each
	}
	for _, f := range families {
		want := map[string][]string{"circuit": {"policy", "direction", "backend"}, "policy": {"policy", "direction"}}[of[f.GetName()]]
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetName())
			}
			if !slices.IsSorted(has) {
				t.Errorf("%s: labels %v are not sorted", f.GetName(), has)
			}
			for _, name := range want {
				if !slices.Contains(has, name) {
					t.Errorf("%s has no label %s", f.GetName(), name)
				}
			}
		}
	}
}

func TestTooManyCircuitsAreSummed(t *testing.T) {
	s := snapshot(t)
	compare(t, "testdata/summed.prom", goversion.ReplaceAllString(text(t, New(func() *view.Snapshot { return s }, 2, false)), `goversion="go"`))
}

func TestProcessIsThere(t *testing.T) {
	s := snapshot(t)
	got := text(t, New(func() *view.Snapshot { return s }, 100, true))
	for _, name := range []string{"process_cpu_seconds_total", "go_goroutines", "cbagent_ready 1"} {
		if !strings.Contains(got, name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestAvailable(t *testing.T) {
	r := &policy.RateLimit{Limit: 10, Period: time.Second, Burst: 3}
	const interval = int64(100 * time.Millisecond)
	for _, c := range []struct {
		ahead int64
		want  int
	}{
		{-interval, 3}, {0, 3}, {1, 2}, {interval, 2}, {interval + 1, 1}, {2 * interval, 1}, {2*interval + 1, 0}, {9 * interval, 0},
	} {
		if got := Available(r, 1000+c.ahead, 1000); got != c.want {
			t.Errorf("next permission due in %s: %d available, want %d", time.Duration(c.ahead), got, c.want)
		}
	}
}
