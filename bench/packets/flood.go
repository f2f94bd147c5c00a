package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/wire"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// way is what becomes of a SYN.
type way struct {
	name  string
	kind  peer.Kind
	set   peer.Settings
	nft   string // a rule of the node's forward chain
	track bool   // the node keeps track of connections, as where kube-proxy runs
	gone  bool   // they are thrown away on entering the node: what sending itself costs
}

var ways = []way{
	{name: "cbagent reset", kind: peer.Cbagent, set: peer.Settings{Policy: []string{"mode: forced-open", "reject: {with: reset}"}}},
	{name: "cbagent drop", kind: peer.Cbagent, set: peer.Settings{Policy: []string{"mode: forced-open", "reject: {with: drop}"}}},
	{name: "cbagent reset, XDP", kind: peer.Cbagent, set: peer.Settings{
		Policy: []string{"mode: forced-open", "direction: inbound", "reject: {with: reset}"},
		// Only generic XDP can send from a veth; on a network card native XDP is faster.
		Flags: []string{"--uplink", "cl0", "--xdp", "generic"},
	}},
	{name: "nft reject with tcp reset", kind: peer.Direct, nft: "reject with tcp reset"},
	{name: "cbagent reset, conntrack", kind: peer.Cbagent, set: peer.Settings{Policy: []string{"mode: forced-open", "reject: {with: reset}"}}, track: true},
	{name: "nft reject with tcp reset, conntrack", kind: peer.Direct, nft: "reject with tcp reset", track: true},
	{name: "nft drop", kind: peer.Direct, nft: "drop"},
	{name: "dropped on entering the node", kind: peer.Direct, gone: true},
	{name: "forwarded to a closed port", kind: peer.Direct},
}

// place is a way at work.
type place struct {
	way
	site *peer.Site
	port *wire.Port
}

// runFlood sends SYNs as fast as one thread can. All that becomes of each is done before the next is sent, on the same
// core.
func runFlood(ctx context.Context, r *part.Run) error {
	var places []place
	defer func() {
		for _, p := range places {
			p.port.Close()
			_ = p.site.Close() // what was measured stands
		}
	}()
	for _, w := range ways {
		p, err := open(r, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		places = append(places, p)
	}
	n := 100_000
	if r.Quick {
		n = 10_000
	}
	for round := range r.Rounds {
		for _, p := range part.Turn(places, round) {
			if err := ctx.Err(); err != nil {
				return err
			}
			ns, err := p.flood(n)
			if err != nil {
				return err
			}
			r.Add("SYN", p.name, round, map[string]float64{"ns": ns})
		}
	}
	return nil
}

func open(r *part.Run, w way) (place, error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return place{}, err
	}
	p := place{way: w, site: site}
	if w.nft != "" {
		err = site.Node.NFT(fmt.Sprintf("table ip bench { chain flood { type filter hook forward priority 0; ip daddr %s tcp dport %d %s; }; }",
			site.Backend(0).Addr(), site.Backend(0).Port(), w.nft))
	}
	if err == nil && w.track {
		err = site.Node.NFT("table ip track { chain see { type filter hook prerouting priority 0; ct state invalid counter; }; }")
	}
	if w.gone {
		err = site.Node.NFT("table netdev bench { chain lose { type filter hook ingress device cl0 priority 0; tcp flags syn drop; }; }")
	}
	if err == nil {
		_, err = site.Start(w.kind, w.set)
	}
	if err == nil {
		link, e := site.Node.Links().LinkByName("cl0")
		if err = e; err == nil {
			p.port, err = wire.OpenPort(site.Client, link.Attrs().HardwareAddr)
		}
	}
	if err != nil {
		return place{}, errors.Join(err, site.Close())
	}
	return p, nil
}

// flood sends n SYNs, and returns the nanoseconds of each.
func (p place) flood(n int) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	to := p.site.Backend(0)
	began := time.Now()
	for i := range n {
		from := netip.AddrPortFrom(netlab.ClientIPv4, uint16(1024+i%60_000))
		if err := p.port.Send(wire.Segment{From: from, To: to, Flags: wire.SYN, Seq: uint32(i)}); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(n), nil
}
