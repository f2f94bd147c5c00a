package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// TestImpatientClientsDoNotHideAHang: clients leave long before outcome.timeout. By default that opens the circuit, and
// fails its probe.
func TestImpatientClientsDoNotHideAHang(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
		"outcome: {patience: 200ms}", "trip: [{consecutiveFailures: 3}]", "open: {duration: 500ms}"), p.interfaces)
	p.server.Set(testserver.Behaviour{Delay: time.Minute})
	leave := func() {
		c := client(t, p.client, p.dial)
		c.Timeout = 500 * time.Millisecond
		if r := call(t, c); r.Class != loadgen.Timeout {
			t.Fatalf("got %s, %v; want a timeout of the client", r.Outcome(), r.Err)
		}
	}
	began := time.Now()
	for range 3 {
		leave()
	}
	if opened, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil || opened.Reason != "consecutiveFailures" {
		t.Fatalf("opened by %+v, %v; want three failures", opened, err)
	}
	half, err := agent.Await(soon(t), p.backend.String(), "half-open", began)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if again, err := agent.Await(soon(t), p.backend.String(), "open", half.At); err != nil || again.Reason != "probeFailed" {
		t.Fatalf("opened again by %+v, %v; want a failed probe", again, err)
	}
}
