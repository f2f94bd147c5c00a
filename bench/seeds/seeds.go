// Package seeds repeats, with the same load generators, the scenarios with which others showed their circuit breakers:
// fortio with growing concurrency against a backend with one slot and one pending request, and vegeta sending more than
// a backend with a bounded pool of workers can do.
package seeds

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/peer/proxy"
)

// Part is this part.
var Part = part.Part{
	Name: "seeds",
	About: "fortio sends 20 requests from 1 to 10 clients to go-httpbin with a delay of 8 ms, of which two may be there at once; " +
		"vegeta sends 1,000 requests a second for 10 s to 8 workers that take 10 ms each.",
	Rounds: 10, Quick: 1,
	Run: run,
}

func run(ctx context.Context, r *part.Run) error {
	if err := runFortio(ctx, r); err != nil {
		return fmt.Errorf("fortio: %w", err)
	}
	if err := runVegeta(ctx, r); err != nil {
		return fmt.Errorf("vegeta: %w", err)
	}
	return nil
}

// contestant is a peer with its settings.
type contestant struct {
	name string
	kind peer.Kind
	set  peer.Settings
}

// bounded configures HAProxy to serve some requests at once, to let some wait, and to answer the others 503 at once.
func bounded(serve, wait int) peer.Settings {
	return peer.Settings{
		HAProxyServer:   fmt.Sprintf("maxconn %d", serve),
		HAProxyTimeouts: "timeout connect 5s\n  timeout server 30s\n  timeout queue 5s",
		HAProxyFront:    fmt.Sprintf("http-request return status 503 content-type application/json string '%s' if { be_conn(back) ge %d }", peer.RejectionBody, serve+wait),
	}
}

// limited configures cbagent to let so many requests be there at once.
func limited(requests int) peer.Settings {
	return peer.Settings{Policy: []string{
		fmt.Sprintf("limits: {maxRequests: %d}", requests),
		"trip: [{consecutiveFailures: 100}]",
	}}
}

// library configures a breaker of outcomes alone.
func library() peer.Settings {
	return peer.Settings{Trip: proxy.Trip{Rate: 0.5, MinCalls: 20}, Open: time.Second, Timeout: 500 * time.Millisecond}
}

// place is a contestant at work.
type place struct {
	contestant
	*peer.Peer
	site *peer.Site
}

// open makes a network for each contestant, with the handler as its backend.
func open(r *part.Run, all []contestant, backend func() http.Handler) (places []place, closeAll func(), err error) {
	closeAll = func() {
		for _, p := range places {
			_ = p.site.Close() // what was measured stands
		}
	}
	for _, c := range all {
		if len(r.Peers(c.kind)) == 0 {
			continue
		}
		site, err := r.Bench.NewSite(1)
		if err != nil {
			return places, closeAll, err
		}
		p := place{contestant: c, site: site}
		places = append(places, p)
		if err := serve(site, backend()); err != nil {
			return places, closeAll, err
		}
		started, err := site.Start(c.kind, c.set)
		if err != nil {
			return places, closeAll, fmt.Errorf("%s: %w", c.name, err)
		}
		places[len(places)-1].Peer = started
	}
	return places, closeAll, nil
}

// serve serves HTTP as the site's first backend until the site is closed.
func serve(site *peer.Site, handler http.Handler) error {
	listener, err := site.Backends[0].Listen(site.Backend(0))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	site.OnClose(func() error {
		err := server.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	return nil
}
