package operate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// A scripted incident: the counts of the agent are those of the servers and of the clients.
func TestMetricsOfAnIncident(t *testing.T) {
	s := newStage(t, 2, []string{"trip: [{consecutiveFailures: 5}]", "open: {duration: 5m}", "outcome: {timeout: 300ms}"})
	bad, good := s.targets[0], s.targets[1]

	s.load(0, 40, 1)
	s.load(1, 30, 3)
	s.servers[1].SetDecide(testserver.Cycle(
		testserver.Part{Behaviour: testserver.Behaviour{Status: 404}, Times: 3},
		testserver.Part{Behaviour: testserver.Behaviour{Ending: testserver.EndReset}, Times: 1},
		testserver.Part{Behaviour: testserver.Behaviour{Status: 200}, Times: 2},
	))
	s.load(1, 30, 1)
	s.servers[0].Set(testserver.Behaviour{Status: 503})
	began := time.Now()
	s.load(0, 5, 1)
	if _, err := s.agent.Await(soon(t), bad.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	s.load(0, 20, 1)
	s.load(0, 20, 4)

	var got series
	eventually(t, "all is counted", func() bool {
		got = s.scrape()
		return got.of("cbagent_requests_in_flight", bad, "") == 0 && got.of("cbagent_requests_in_flight", good, "") == 0 &&
			got.of("cbagent_outcomes_total", good, `outcome="reset"`) == float64(s.servers[1].Counts().Resets)
	})
	for i, at := range s.targets {
		c := s.servers[i].Counts()
		want := map[string]float64{
			"cbagent_admitted_total{}":              float64(c.Requests),
			`cbagent_outcomes_total{outcome="2xx"}`: float64(c.ByStatus[200]), `cbagent_outcomes_total{outcome="4xx"}`: float64(c.ByStatus[404]),
			`cbagent_outcomes_total{outcome="5xx"}`: float64(c.ByStatus[503]), `cbagent_outcomes_total{outcome="reset"}`: float64(c.Resets),
			`cbagent_outcomes_total{outcome="timeout"}`: 0,
			`cbagent_responses_total{status="200"}`:     float64(c.ByStatus[200]), `cbagent_responses_total{status="404"}`: float64(c.ByStatus[404]),
			`cbagent_responses_total{status="503"}`:      float64(c.ByStatus[503]),
			"cbagent_response_duration_seconds{}":        float64(c.Answered()),
			`cbagent_circuit_state{state="open"}`:        float64(1 - i),
			`cbagent_circuit_state{state="closed"}`:      float64(i),
			`cbagent_circuit_state{state="half-open"}`:   0,
			`cbagent_circuit_state{state="forced-open"}`: 0,
			"cbagent_circuit_backoff_step{}":             float64(1 - i),
		}
		for name, n := range want {
			name, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
			if have := got.of(name, at, labels); have != n {
				t.Errorf("%s %s{%s}: %g, want %g", at, name, labels, have, n)
			}
		}
	}
	away := got[fmt.Sprintf(`cbagent_rejected_total{answer="respond",backend=%q,reason="open"}`, bad)]
	if c := s.servers[0].Counts(); away != 40 || c.Requests != 45 {
		t.Errorf("%g rejected and %d requests reached the backend, want 40 and 45", away, c.Requests)
	}
	if n := got[fmt.Sprintf(`cbagent_rejected_total{answer="respond",backend=%q,reason="open"}`, good)]; n != 0 {
		t.Errorf("%g rejected from the good backend", n)
	}
	if n := got[fmt.Sprintf(`cbagent_circuit_transitions_total{backend=%q,from="closed",reason="consecutiveFailures",to="open"}`, bad)]; n != 1 {
		t.Errorf("%g openings", n)
	}
	for name, n := range map[string]float64{
		"cbagent_ready": 1, "cbagent_policy_backends": 2, "cbagent_policy_ejections": 1, "cbagent_verdict_latency_seconds": 1,
		`cbagent_build_info{goversion="` + goVersion + `",version="v0.0.0-test"}`: 1, "cbagent_ring_events_lost_total": 0,
		`cbagent_interface_attached{interface="be1",mode="tcx"}`: 1, "cbagent_policy_reload_successful": 1,
	} {
		if have, ok := got[name]; !ok || have != n {
			t.Errorf("%s: %g (%v), want %g", name, have, ok, n)
		}
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if status, body := s.get(path); status != 200 || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}

// The three causes of a call that fails before it reaches the backend are three series.
func TestThreeCauses(t *testing.T) {
	s := newStage(t, 3, []string{
		"trip: [{consecutiveFailures: 1}]", "open: {duration: 5m}", "limits: {maxConnections: 2}", "rateLimit: {limit: 1, period: 1h, burst: 5}",
	})
	cause := func(at int, reason string) float64 {
		return s.scrape()[fmt.Sprintf(`cbagent_rejected_total{answer="respond",backend=%q,reason=%q}`, s.targets[at], reason)]
	}
	// Backend 0 fails once: open.
	s.servers[0].Set(testserver.Behaviour{Status: 500})
	began := time.Now()
	s.load(0, 1, 1)
	if _, err := s.agent.Await(soon(t), s.targets[0].String(), "open", began); err != nil {
		t.Fatal(err)
	}
	s.load(0, 3, 1)
	// Backend 1 gets 8 requests, of which 5 are let through: the rate limit.
	s.load(1, 8, 1)
	// Two connections to backend 2 are held open, and a third is rejected: the connection limit.
	for range 2 {
		conn, err := s.Client.DialContext(soon(t), "tcp", s.targets[2].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	s.load(2, 4, 1)
	want := map[string][3]float64{"open": {3, 0, 0}, "rate-limit": {0, 3, 0}, "connection-limit": {0, 0, 4}}
	for reason, by := range want {
		for at, n := range by {
			if got := cause(at, reason); got != n {
				t.Errorf("backend %d, %s: %g rejected, want %g", at, reason, got, n)
			}
		}
	}
}
