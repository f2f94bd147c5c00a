package containment

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// failure is how a backend fails.
type failure string

// Failures.
const (
	status500 failure = "500"
	hang      failure = "hang"
	refuse    failure = "refuse"     // its process is gone: the port is closed, open connections end
	blackHole failure = "black-hole" // its packets are lost
	some      failure = "30 %"       // three requests of ten get a 500
)

// backend is a server that can be made to fail, and knows when each request reached it.
type backend struct {
	site    *peer.Site
	failing atomic.Bool
	how     failure
	tap     *tap

	mu     sync.Mutex
	server *testserver.Server
	at     []time.Time // requests
	checks int         // health checks, which are not requests of clients
}

// checkPath is where proxies ask for its health.
const checkPath = "/health"

func newBackend(site *peer.Site, how failure) (*backend, error) {
	b := &backend{site: site, how: how}
	if err := b.serve(); err != nil {
		return nil, err
	}
	if how == refuse || how == blackHole {
		var err error
		if b.tap, err = openTap(site.Backends[0].Namespace, peer.BackendPort); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func (b *backend) serve() error {
	server, err := testserver.New(b.site.Backends[0].Listen, b.site.Backend(0))
	if err != nil {
		return err
	}
	server.SetDecide(b.decide)
	b.mu.Lock()
	b.server = server
	b.mu.Unlock()
	return nil
}

// decide is asked for each request.
func (b *backend) decide(r *http.Request, n uint64) testserver.Behaviour {
	b.mu.Lock()
	if r.URL.Path == checkPath {
		b.checks++
	} else {
		b.at = append(b.at, time.Now())
	}
	b.mu.Unlock()
	if b.failing.Load() {
		switch b.how {
		case status500:
			return testserver.Behaviour{Status: 500}
		case hang:
			return testserver.Behaviour{Ending: testserver.EndHang}
		case some:
			// Three of ten, spread as evenly as they can be: what follows is the same in each run.
			if n*3%10 < 3 {
				return testserver.Behaviour{Status: 500}
			}
		}
	}
	return testserver.Behaviour{}
}

// fail makes the backend fail.
func (b *backend) fail() error {
	switch b.how {
	case refuse:
		return b.server.Close()
	case blackHole:
		return b.site.Backends[0].NFT(fmt.Sprintf("table ip bench { chain lose { type filter hook input priority 0; "+
			"tcp dport %d drop; }; }", peer.BackendPort))
	}
	b.failing.Store(true)
	return nil
}

// heal makes it good again.
func (b *backend) heal() error {
	b.failing.Store(false)
	switch b.how {
	case refuse:
		return b.serve()
	case blackHole:
		return b.site.Backends[0].NFT("delete table ip bench")
	}
	return nil
}

// arrivals returns when each request of a client, or each attempt at one, reached the backend.
func (b *backend) arrivals() []time.Time {
	if b.tap != nil {
		return b.tap.arrivals()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.at...)
}

func (b *backend) healthChecks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checks
}

func (b *backend) close() error {
	if b.tap != nil {
		b.tap.close()
	}
	return b.server.Close()
}
