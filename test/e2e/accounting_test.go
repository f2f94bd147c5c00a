package e2e

import (
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// A connection whose client is taken away together with its network never says goodbye.
func TestConnectionsOfADeletedInterfaceAreGivenBack(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	serve(t, star.Backends[0].Namespace, at)
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, "limits: {maxConnections: 1}"), []string{"be*", "cl*"})

	wantStatus(t, call(t, client(t, star.Client, at)), 200) // and stays open
	second := func() loadgen.Result {
		c := &loadgen.Client{Dial: star.Node.DialContext, Target: at, Timeout: patience}
		defer c.Close()
		return call(t, c)
	}
	wantAnswer(t, second(), "connection-limit")
	l, err := star.Node.Links().LinkByName("cl0")
	if err != nil {
		t.Fatal(err)
	}
	agent.Allow(goneInterface)
	if err := star.Node.Links().LinkDel(l); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection of the deleted interface is given back", func() bool { return second().Status == 200 })
}
