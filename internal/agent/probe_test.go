package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/policy"
)

// A probe that got no answer has failed, whoever ended it; one that says nothing of the backend gives its permit back.
func TestProbesThatGotNoAnswer(t *testing.T) {
	s := breaker.DefaultSettings()
	s.HalfOpen.Tolerate = 1
	for result, failed := range map[breaker.Result]bool{
		breaker.ResultTimeout: true, breaker.ResultAbandoned: true, breaker.ResultUnreachable: true,
		breaker.ResultRaced: false, breaker.ResultAborted: false,
	} {
		g, err := breaker.NewGroup("g", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := &circuitState{circuit: g.Add("a", 0), policy: &policyState{Policy: &policy.Policy{Breaker: s}, group: g}}
		for range 5 {
			c.circuit.Record(0, &breaker.Outcome{Result: 500}, nil)
		}
		at := int64(30 * time.Second)
		g.Advance(breaker.Time(at), nil)
		probe := ledger.Event{
			Kind: ledger.EventProbe, At: at, Began: at, Generation: toKernel(c.circuit.Generation()),
			Client: netip.MustParseAddrPort("192.0.2.99:40000"), Backend: netip.MustParseAddrPort("192.0.2.7:8080"),
		}
		a := &Agent{circuits: []*circuitState{c}}
		a.onEvent(&probe)
		outcome := probe
		outcome.Kind, outcome.Result, outcome.Permit = ledger.EventOutcome, uint16(result), true
		outcome.At, outcome.Judged, outcome.Failure = at+int64(3*time.Second), failed, failed
		a.onEvent(&outcome)
		want := breaker.Probes{}
		if failed {
			want = breaker.Probes{Used: 1, Finished: 1, Bad: 1}
		}
		if got := c.circuit.Status().Probes; got != want {
			t.Errorf("%s: %+v, want %+v", result, got, want)
		}
	}
}
