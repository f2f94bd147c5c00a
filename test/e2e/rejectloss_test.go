package e2e

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestRejectedRequestOfManySegments: however the segments of a request come, its client gets the kernel's whole 503.
func TestRejectedRequestOfManySegments(t *testing.T) {
	t.Parallel()
	for name, i := range map[string]netlab.Impairment{
		"reordered": {Reorder: 0.2}, "lost": {}, "duplicated": {Duplicate: 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := relayPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
			const requests = 300
			kept := make([]*loadgen.Client, 60)
			for i := range kept {
				kept[i] = client(t, p.client, p.dial)
				kept[i].Timeout = time.Minute
				wantStatus(t, call(t, kept[i]), 200)
			}
			openCircuit(t, agent, p.server, client(t, p.client, p.dial))
			before := p.server.Counts()
			impaired := impair(t, i, p.clients)
			if name == "lost" {
				loseSome(p.clients, 0.1)
			}
			post := loadgen.Request{Method: "POST", Body: bytes.Repeat([]byte("0123456789"), 3600)}
			var fresh, open loadgen.Tally
			var calls sync.WaitGroup
			for _, c := range kept {
				calls.Go(func() { open.Done(c.Target, c.Do(context.Background(), post)) })
			}
			load := loadgen.Load{
				Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: 150, Requests: requests, Every: 1, Timeout: time.Minute,
				Request: post, Done: fresh.Done,
			}
			if err := load.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			calls.Wait()
			impaired()
			if lost := p.clients.Forward.Counts().Lost + p.clients.Backward.Counts().Lost; name == "lost" && lost < requests {
				t.Errorf("%d packets were lost, want one a request at least", lost)
			}
			for on, got := range map[string]loadgen.Counts{"new": fresh.Counts(), "open": open.Counts()} {
				if got.FromKernel["open"] != got.Requests {
					t.Errorf("on %d %s connections clients got %v, %v from the kernel; want nothing else", got.Requests, on, got.ByOutcome, got.FromKernel)
				}
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
		})
	}
}

// loseSome loses packets at random, in both directions of a relay, but no more than two of a client in a row: the time
// that TCP waits before it sends again doubles each time.
func loseSome(r *netlab.Relay, share float64) {
	var mu sync.Mutex
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	inARow := map[netip.AddrPort]int{}
	for _, d := range []*netlab.Direction{r.Forward, r.Backward} {
		d.SetHook(func(frame []byte) netlab.Fate {
			s, ok := netlab.ParseSegment(frame)
			if !ok {
				return netlab.Fate{}
			}
			client := s.Src
			if d == r.Backward {
				client = s.Dst
			}
			mu.Lock()
			defer mu.Unlock()
			if inARow[client] == 2 || random.Float64() >= share {
				inARow[client] = 0
				return netlab.Fate{}
			}
			inARow[client]++
			return netlab.Fate{Drop: true}
		})
	}
}
