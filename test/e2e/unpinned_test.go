package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestUnpinnedAgentSaysSo: an agent whose circuits end with it logs that once, one that pins them does not.
func TestUnpinnedAgentSaysSo(t *testing.T) {
	t.Parallel()
	const message = "without --bpffs a restart of the agent closes all circuits"
	star := newStar(t, netlab.Options{Backends: 1})
	policy := policyOf([]netip.AddrPort{netip.AddrPortFrom(star.Backends[0].IPv4, port)})
	agent := startAgent(t, star.Node, policy, []string{"be*"})
	if got := strings.Count(agent.Complaint("log").Error(), message); got != 1 {
		t.Errorf("without --bpffs it is logged %d times, want once", got)
	}
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	pinned := newLineage(t, star.Node, policy)
	if got := pinned.start().Complaint("log").Error(); strings.Contains(got, message) {
		t.Errorf("with --bpffs: %s", got)
	}
	pinned.stop()
	if out, err := pinned.detach(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
