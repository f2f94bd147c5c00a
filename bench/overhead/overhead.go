// Package overhead measures what it costs to stand between clients and a healthy backend.
package overhead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/peer/proxy"
	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/bench/wire"
)

// Part is this part.
var Part = part.Part{
	Name: "overhead",
	About: "One client, or 16, send requests through each peer to a healthy backend for a second, on kept connections and on new ones. " +
		"Client and backend are as lean as can be, so that all of every difference shows; the last case has fortio and Go's own server " +
		"in their places. Each peer has a network of its own; they take turns.",
	Rounds: 20, Quick: 2,
	Run: http1.run,
}

// GRPC is the part that measures the same for gRPC.
var GRPC = part.Part{
	Name: "grpc",
	About: "One client, or 16, make unary calls of gRPC through each peer to a healthy backend for a second, each on a connection of its own. " +
		"Client and backend are as lean as can be, so that all of every difference shows; in the last case they are grpc-go, as in fortio, " +
		"and 16 calls share a connection. Each peer has a network of its own; they take turns.",
	Rounds: 20, Quick: 1,
	Run: grpc.run,
}

// comparison is what is sent through which peers.
type comparison struct {
	settings peer.Settings
	shapes   []shape
	success  int                                      // status of an answer
	serve    func(site *peer.Site, backend int) error // of the leanest backend
	peers    []peer.Kind                              // in front of it
	ordinary func(site *peer.Site, backend int) error // an ordinary backend, to which fortio sends
	fortio   fortio
}

var trip = peer.Settings{Trip: proxy.Trip{Consecutive: 5}, Open: 5 * time.Second}

var http1 = comparison{
	settings: trip,
	shapes: []shape{
		{"keep-alive/1", 1, true}, {"keep-alive/16", 16, true}, {"new/1", 1, false}, {"new/16", 16, false},
	},
	success:  200,
	serve:    (*peer.Site).ServeWire,
	peers:    []peer.Kind{peer.Direct, peer.Cbagent, peer.HAProxy, peer.Nginx, peer.Gobreaker},
	ordinary: (*peer.Site).ServeGo,
	fortio:   fortio{"fortio to a Go server/16", []string{"-c", "16"}, "http://%s/", "200"},
}

var grpc = comparison{
	settings: peer.Settings{Trip: trip.Trip, Open: trip.Open, GRPC: true},
	shapes:   []shape{{"calls/1", 1, true}, {"calls/16", 16, true}},
	serve:    (*peer.Site).ServeCalls,
	peers:    []peer.Kind{peer.Direct, peer.Cbagent, peer.HAProxy, peer.Nginx},
	ordinary: (*peer.Site).ServeFortio,
	fortio:   fortio{"fortio to grpc-go/16", []string{"-grpc", "-ping", "-c", "1", "-s", "16"}, "%s", "SERVING"},
}

// shape of a load.
type shape struct {
	name    string
	clients int
	keep    bool
}

const warmUp = 100 * time.Millisecond

// place is a peer at work.
type place struct {
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
	for _, k := range r.Peers(c.peers...) {
		p, err := c.open(r, k, c.serve)
		if err == nil {
			_, err = c.measure(p, shape{"warm-up", 16, true}, warmUp)
		}
		if p.site != nil {
			places = append(places, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	lean := len(places)
	for _, k := range r.Peers(peer.Direct, peer.Cbagent, peer.HAProxy, peer.Nginx) {
		p, err := c.open(r, k, c.ordinary)
		if err == nil {
			_, err = p.fortio(ctx, r, c.fortio, warmUp)
		}
		if p.site != nil {
			places = append(places, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	length := time.Second
	if r.Quick {
		length = 300 * time.Millisecond
	}
	for round := range r.Rounds {
		for _, s := range c.shapes {
			for _, p := range part.Turn(places[:lean], round) {
				if err := ctx.Err(); err != nil {
					return err
				}
				values, err := c.measure(p, s, length)
				if err = errors.Join(err, p.Ended()); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, p.Kind, err)
				}
				r.Add(s.name, string(p.Kind), round, values)
			}
		}
		for _, p := range part.Turn(places[lean:], round) {
			values, err := p.fortio(ctx, r, c.fortio, length)
			if err != nil {
				return fmt.Errorf("fortio, %s: %w", p.Kind, err)
			}
			r.Add(c.fortio.name, string(p.Kind), round, values)
		}
	}
	return nil
}

// open makes a network with a backend and a peer.
func (c comparison) open(r *part.Run, k peer.Kind, serve func(*peer.Site, int) error) (place, error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return place{}, err
	}
	p := place{site: site}
	if err := serve(site, 0); err != nil {
		return place{}, errors.Join(err, site.Close())
	}
	if p.Peer, err = site.Start(k, c.settings); err != nil {
		return place{}, errors.Join(err, site.Close())
	}
	return p, nil
}

// measure sends one load.
func (c comparison) measure(p place, s shape, length time.Duration) (map[string]float64, error) {
	var pids []int
	for _, pid := range p.Pids {
		pids = append(pids, usage.Tree(pid)...)
	}
	cpu, err := usage.CPU(pids...)
	if err != nil {
		return nil, err
	}
	busy, err := usage.Busy()
	if err != nil {
		return nil, err
	}
	result, err := p.site.Load(wire.Load{Target: p.Target, Clients: s.clients, For: length, KeepOpen: s.keep, GRPC: c.settings.GRPC})
	if err != nil {
		return nil, err
	}
	busyAfter, err := usage.Busy()
	if err != nil {
		return nil, err
	}
	cpuAfter, err := usage.CPU(pids...)
	if err != nil {
		return nil, err
	}
	if result.ByStatus[c.success] != result.Requests {
		return nil, fmt.Errorf("of %d requests %v were answered and %v not: all must be %d", result.Requests, result.ByStatus, result.Errors, c.success)
	}
	rss, err := usage.RSS(pids...)
	if err != nil {
		return nil, err
	}
	per100k := 100_000 / float64(result.Requests)
	return map[string]float64{
		"requests": float64(result.Requests),
		"rate_rps": result.Rate(),
		"p50_us":   us(result.P50), "p90_us": us(result.P90), "p99_us": us(result.P99), "mean_us": us(result.Mean),
		"cpu_s_per_100k":     (cpuAfter - cpu).Seconds() * per100k,
		"machine_s_per_100k": (busyAfter - busy).Seconds() * per100k,
		"rss_mb":             float64(rss) / (1 << 20),
	}, nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
