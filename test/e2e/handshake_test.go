package e2e

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestUnfinishedHandshakesHoldNoPlaces: SYNs whose SYN-ACK nobody acknowledges take places of maxConnections for as long
// as an attempt to connect may take, though the backend answered them. It measures time, and so runs alone.
func TestUnfinishedHandshakesHoldNoPlaces(t *testing.T) {
	const limit = 20
	const connectTimeout = 2 * time.Second
	p := relayPlace(t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "outcome: {connectTimeout: 2s}", "limits: {maxConnections: 20}"), p.interfaces)
	var synacks atomic.Int64
	p.backends.Backward.SetHook(func(frame []byte) netlab.Fate {
		if s, ok := netlab.ParseSegment(frame); ok && s.Flags == netlab.SYN|netlab.ACK {
			synacks.Add(1)
		}
		return netlab.Fate{}
	})
	began := time.Now()
	flood(t, p, limit)
	eventually(t, "the backend answers", func() bool { return synacks.Load() >= limit })
	wantMetric(t, p.place, limit, "cbagent_connections")
	c := client(t, p.client, p.dial)
	if r := call(t, c); r.Status != 503 || r.Class != loadgen.Answered {
		t.Fatalf("got %s, %v; want the kernel's 503 while all places are taken", r.Outcome(), r.Err)
	}
	var free time.Duration
	eventually(t, "there is a place", func() bool {
		r := call(t, c)
		free = time.Since(began)
		return r.Status == 200
	})
	if free > connectTimeout+time.Second { // without that a minute, for which the backend repeats its SYN-ACKs
		t.Errorf("the first place was free after %s, want %s", free, connectTimeout)
	}
	c.Close()
	wantMetric(t, p.place, 0, "cbagent_connections")
	// A limit of places is one again.
	kept, got := atOnce(t, p.place, 2*limit)
	if got.ByOutcome["200"] != limit || got.FromKernel["connection-limit"] != limit {
		t.Errorf("afterwards clients got %v, %v of them from the kernel; want %d admitted", got.ByOutcome, got.FromKernel, limit)
	}
	for _, c := range kept {
		c.Close()
	}
	if got := agent.Transitions(); len(got) > 0 {
		t.Errorf("transitions %+v, although the backend answered", got)
	}
}

// TestHandshakeFinishedLate: a connection whose place was given back takes one again when its client goes on, or is reset
// on both sides where there is none.
func TestHandshakeFinishedLate(t *testing.T) {
	t.Parallel()
	const limit = 3
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprintf("full=%v", full), func(t *testing.T) {
			t.Parallel()
			p := relayPlace(t)
			startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "outcome: {connectTimeout: 1s}", "limits: {maxConnections: 3}"), p.interfaces)
			synacks := make(chan netlab.Segment, 100)
			var toClient, toBackend atomic.Int64 // resets
			p.backends.Backward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && s.Flags == netlab.SYN|netlab.ACK {
					synacks <- s
				}
				return netlab.Fate{}
			})
			p.backends.Forward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && s.Src.Addr() == nobody && s.Flags&netlab.RST != 0 {
					toBackend.Add(1)
				}
				return netlab.Fate{}
			})
			link := flood(t, p, 1)
			synack := <-synacks
			wantMetric(t, p.place, 1, "cbagent_connections")
			wantMetric(t, p.place, 0, "cbagent_connections")
			places := 0
			if full {
				places = limit
				if _, got := atOnce(t, p.place, limit); got.ByOutcome["200"] != limit {
					t.Fatalf("clients got %v, want %d times 200", got.ByOutcome, limit)
				}
			}
			before := p.server.Counts()
			// Nobody has the address: what is sent there is seen where it would be on its way.
			p.clients.Backward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && s.Dst.Addr() == nobody && s.Flags&netlab.RST != 0 {
					toClient.Add(1)
				}
				return netlab.Fate{}
			})
			neighbourOf(t, p, nobody, link.SrcMAC)
			ack := netlab.Segment{
				SrcMAC: link.SrcMAC, DstMAC: link.DstMAC, Src: synack.Dst, Dst: synack.Src, Seq: synack.Ack, Ack: synack.Seq + 1,
				Flags: netlab.ACK, Window: 500,
			}
			p.clients.Forward.Inject(ack.Frame())
			ack.Flags, ack.Payload = netlab.PSH|netlab.ACK, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			p.clients.Forward.Inject(ack.Frame())
			if !full {
				eventually(t, "its request is served", func() bool { return p.server.Counts().Sub(before).Requests == 1 })
				wantMetric(t, p.place, 1, "cbagent_connections")
				return
			}
			eventually(t, "both sides are reset", func() bool { return toClient.Load() > 0 && toBackend.Load() > 0 })
			if got := p.server.Counts().Sub(before).Requests; got > 0 {
				t.Errorf("the backend saw %d requests of a connection without a place", got)
			}
			wantMetric(t, p.place, float64(places), "cbagent_connections")
		})
	}
}

// nobody is an address of the client's network that no interface has.
var nobody = netip.MustParseAddr("10.20.0.102")

// neighbourOf has the node send packets for an address to the client's link.
func neighbourOf(t *testing.T, p relayed, addr netip.Addr, mac [6]byte) {
	t.Helper()
	link, err := p.node.Links().LinkByName("cl0")
	if err != nil {
		t.Fatal(err)
	}
	err = p.node.Links().NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac[:],
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flood sends SYNs from an address that nobody has, and returns a segment with the addresses of the client's link.
func flood(t *testing.T, p relayed, n int) (link netlab.Segment) {
	t.Helper()
	frames := make(chan netlab.Segment, 1)
	p.clients.Forward.SetHook(func(frame []byte) netlab.Fate {
		if s, ok := netlab.ParseSegment(frame); ok {
			select {
			case frames <- s:
			default:
			}
		}
		return netlab.Fate{}
	})
	// A real one shows the addresses of the link.
	wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
	s := <-frames
	p.clients.Forward.SetHook(nil)
	mss := []byte{2, 4, 5, 0xb4}
	for i := range n {
		p.clients.Forward.Inject(netlab.Segment{
			SrcMAC: s.SrcMAC, DstMAC: s.DstMAC, Src: netip.AddrPortFrom(nobody, uint16(40000+i)), Dst: p.backend,
			Seq: uint32(i) << 24, Flags: netlab.SYN, Window: 64000, Options: mss,
		}.Frame())
	}
	return s
}
