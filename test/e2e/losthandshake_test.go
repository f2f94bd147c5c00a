package e2e

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestLostHandshake loses the SYN or the SYN-ACK, and the first segment of the request too or not: a rejected client waits
// no longer than one whom a backend answers.
func TestLostHandshake(t *testing.T) {
	t.Parallel()
	for _, synack := range []bool{false, true} {
		for _, data := range []bool{false, true} {
			t.Run(fmt.Sprintf("SYN-ACK=%v data=%v", synack, data), func(t *testing.T) {
				t.Parallel()
				p := relayPlace(t)
				openAt(t, p.place)
				losing := map[netip.AddrPort]*firsts{p.backend: {}, p.neighbour: {}}
				p.clients.Forward.SetHook(func(frame []byte) netlab.Fate {
					s, ok := netlab.ParseSegment(frame)
					if f := losing[s.Dst]; ok && f != nil {
						return netlab.Fate{Drop: !synack && f.syn(s) || data && f.data(s)}
					}
					return netlab.Fate{}
				})
				p.clients.Backward.SetHook(func(frame []byte) netlab.Fate {
					s, ok := netlab.ParseSegment(frame)
					f := losing[s.Src]
					return netlab.Fate{Drop: ok && f != nil && synack && f.syn(s)}
				})
				var rejected, served loadgen.Result
				var calls sync.WaitGroup
				calls.Go(func() { rejected = call(t, client(t, p.client, p.backend)) })
				calls.Go(func() { served = call(t, client(t, p.client, p.neighbour)) })
				calls.Wait()
				wantAnswer(t, rejected, "open")
				wantStatus(t, served, 200)
				const margin = 300 * time.Millisecond
				t.Logf("rejected: connected in %s, answered in %s; served: %s, %s", rejected.Connect, rejected.Latency, served.Connect, served.Latency)
				if rejected.Connect > served.Connect+margin || rejected.Latency > served.Latency+margin {
					t.Errorf("a rejected client connects in %s and has its answer in %s, another in %s and %s",
						rejected.Connect, rejected.Latency, served.Connect, served.Latency)
				}
				if got := p.clients.Forward.Counts().Lost + p.clients.Backward.Counts().Lost; got < 2 {
					t.Errorf("%d packets were lost, want one or two of each connection", got)
				}
			})
		}
	}
}

// firsts finds the first segments of a connection.
type firsts struct{ hasSYN, hasData atomic.Bool }

func (f *firsts) syn(s netlab.Segment) bool {
	return s.Flags&netlab.SYN != 0 && !f.hasSYN.Swap(true)
}

func (f *firsts) data(s netlab.Segment) bool {
	return len(s.Payload) > 0 && !f.hasData.Swap(true)
}
