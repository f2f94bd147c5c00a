// Package rejection measures how long it takes to reject a client, and how many can be rejected.
package rejection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/wire"
)

// Part is this part.
var Part = part.Part{
	Name: "rejection",
	About: "One client, or 16, are rejected as fast as they come back, by a 503 with the same body or by a RST, on kept connections " +
		"(where the one who rejects keeps them) and on new ones.",
	Rounds: 20, Quick: 2,
	Run: http1.run,
}

// GRPC is the part that measures the same for gRPC.
var GRPC = part.Part{
	Name: "grpc-rejection",
	About: "One client, or 16, have their calls of gRPC rejected as fast as they make them, each on a connection of its own, by grpc-status 14 " +
		"with the same message.",
	Rounds: 20, Quick: 1,
	Run: grpc.run,
}

// way is one way of rejecting clients.
type way struct {
	name  string
	kind  peer.Kind
	set   peer.Settings
	nft   bool // a rule of the node's nftables rejects, whatever kind is
	reset bool // clients get a RST when they connect, not an answer
}

// xdp takes the client's veth for an uplink. Only generic XDP can send there; on a network card native XDP is faster.
var xdp = peer.Settings{
	Policy: []string{"mode: forced-open", "direction: inbound", "reject: {with: reset}"},
	Flags:  []string{"--uplink", "cl0", "--xdp", "generic"},
}

// comparison is what is rejected, and by whom.
type comparison struct {
	ways   []way
	shapes []shape
	answer int // status of an answer that rejects
}

var http1 = comparison{ways, shapes, 503}

// unavailable is the grpc-status of an answer that rejects.
const unavailable = 14

var grpc = comparison{
	ways: []way{
		{name: "cbagent", kind: peer.Cbagent, set: peer.Settings{Answer: unavailable, GRPC: true}},
		{name: "haproxy", kind: peer.HAProxy, set: peer.Settings{Answer: unavailable, GRPC: true}},
		{name: "nginx", kind: peer.Nginx, set: peer.Settings{Answer: unavailable, GRPC: true}},
	},
	shapes: []shape{{"calls/1", 1, true}, {"calls/16", 16, true}},
	answer: unavailable,
}

var ways = []way{
	{name: "cbagent 503", kind: peer.Cbagent, set: peer.Settings{Answer: 503}},
	{name: "cbagent reset", kind: peer.Cbagent, set: peer.Settings{Policy: []string{"mode: forced-open", "reject: {with: reset}"}}, reset: true},
	{name: "cbagent reset, connect hook", kind: peer.Cbagent, set: peer.Settings{
		Policy: []string{"mode: forced-open", "reject: {with: reset}"}, Connect: true,
	}, reset: true},
	{name: "cbagent reset, XDP", kind: peer.Cbagent, set: xdp, reset: true},
	{name: "haproxy 503", kind: peer.HAProxy, set: peer.Settings{Answer: 503}},
	{name: "nginx 503", kind: peer.Nginx, set: peer.Settings{Answer: 503}},
	{name: "nginx 503, keepalive_timeout 0", kind: peer.Nginx, set: peer.Settings{Answer: 503, Close: true}},
	{name: "nft reject with tcp reset", kind: peer.Direct, nft: true, reset: true},
}

// shape of a load.
type shape struct {
	name    string
	clients int
	keep    bool
}

var shapes = []shape{{"new/1", 1, false}, {"new/16", 16, false}, {"keep-alive/1", 1, true}, {"keep-alive/16", 16, true}}

// place is a way at work.
type place struct {
	way
	*peer.Peer
	site *peer.Site
}

func (c comparison) run(ctx context.Context, r *part.Run) error {
	var places []place
	defer func() {
		for _, p := range places {
			_ = p.site.Close() // what was measured stands
		}
	}()
	for _, w := range c.ways {
		if len(r.Peers(w.kind)) == 0 {
			continue
		}
		p, err := c.open(r, w)
		if errors.Is(err, peer.ErrNoCgroup) {
			r.LeftOut(fmt.Sprintf("%s: %v", w.name, err))
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		places = append(places, p)
	}
	length := 500 * time.Millisecond
	if r.Quick {
		length = 200 * time.Millisecond
	}
	for round := range r.Rounds {
		for _, s := range c.shapes {
			for _, p := range part.Turn(places, round) {
				if err := ctx.Err(); err != nil {
					return err
				}
				if p.reset && s.keep {
					continue // nothing is kept where nothing was opened
				}
				values, err := c.measure(p, s, length)
				if err = errors.Join(err, p.Ended()); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, p.name, err)
				}
				r.Add(s.name, p.name, round, values)
			}
		}
	}
	return nil
}

func (c comparison) open(r *part.Run, w way) (place, error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return place{}, err
	}
	p := place{way: w, site: site}
	if w.nft {
		err = site.Node.NFT(fmt.Sprintf("table ip bench { chain flood { type filter hook forward priority 0; "+
			"ip daddr %s tcp dport %d reject with tcp reset; }; }", site.Backend(0).Addr(), site.Backend(0).Port()))
	}
	if err == nil {
		serve := site.ServeWire
		if w.set.GRPC {
			serve = site.ServeCalls
		}
		err = serve(0)
	}
	if err == nil {
		p.Peer, err = site.Start(w.kind, w.set)
	}
	if err == nil {
		_, err = c.measure(p, shape{"warm-up", 16, false}, 50*time.Millisecond)
	}
	if err != nil {
		return place{}, errors.Join(err, site.Close())
	}
	return p, nil
}

func (c comparison) measure(p place, s shape, length time.Duration) (map[string]float64, error) {
	result, err := p.site.Load(wire.Load{Target: p.Target, Clients: s.clients, For: length, KeepOpen: s.keep, Connect: p.reset, GRPC: p.set.GRPC})
	if err != nil {
		return nil, err
	}
	rejected := result.ByStatus[c.answer]
	if p.reset {
		rejected = result.Errors["ECONNREFUSED"]
	}
	// What did not get through at all is not counted, and must be rare.
	lost := result.Requests - rejected
	if 1000*lost > result.Requests {
		return nil, fmt.Errorf("of %d clients %d were rejected: answers %v, others %v", result.Requests, rejected, result.ByStatus, result.Errors)
	}
	return map[string]float64{
		"rejected": float64(rejected), "lost": float64(lost),
		"rate_rps": float64(rejected) / result.Elapsed.Seconds(),
		"p50_us":   us(result.P50), "p90_us": us(result.P90), "p99_us": us(result.P99), "mean_us": us(result.Mean),
	}, nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
