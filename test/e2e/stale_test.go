package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestRequestsOfNoConnection: requests without a handshake are answered by a RST of the backend, which has not failed. So
// are those that come once more when their connection is long over.
func TestRequestsOfNoConnection(t *testing.T) {
	t.Parallel()
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, send := range map[string]func(t *testing.T, p relayed, a *attacker, n int){
		"another pod": func(_ *testing.T, p relayed, a *attacker, n int) {
			src := netip.AddrPortFrom(p.neighbour.Addr(), uint16(30000+n))
			a.send(src, p.backend, netlab.PSH|netlab.ACK, netlab.Segment{}, request)
		},
		"late duplicate": func(t *testing.T, p relayed, _ *attacker, _ int) {
			late := make(chan []byte, 1)
			p.clients.Forward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && len(s.Payload) > 0 {
					late <- append([]byte(nil), frame...)
				}
				return netlab.Fate{}
			})
			c := dial(t, p.place)
			if got := ask(c); got != "200" {
				t.Fatalf("got %s, want 200", got)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			p.clients.Forward.SetHook(nil)
			eventually(t, "the backend forgets the connection", func() bool { return !unread(t, p.home, c.LocalAddr().String()) })
			wantMetric(t, p.place, 0, "cbagent_connections")
			p.clients.Forward.Inject(<-late)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, a := forgedPlace(t, "1")
			const requests = 5
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, fmt.Sprintf("trip: [{failureCount: %d}]", requests)), p.interfaces)
			resets := make(chan struct{}, 10*requests)
			p.backends.Backward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && s.Flags&netlab.RST != 0 {
					resets <- struct{}{}
				}
				return netlab.Fate{}
			})
			for n := range requests {
				send(t, p, a, n)
				select {
				case <-resets:
				case <-soon(t).Done():
					t.Fatal("the backend did not answer with a RST")
				}
			}
			wantMetric(t, p.place, 0, "cbagent_connections")
			wantMetric(t, p.place, 0, "cbagent_outcomes_total", `outcome="reset"`)
			if got := agent.Transitions(); len(got) > 0 {
				t.Errorf("transitions %+v of requests that nobody sent", got)
			}
		})
	}
}
