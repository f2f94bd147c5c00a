// Package verdict measures how long it takes from an outcome to the verdict that follows from it.
package verdict

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/row"
	"github.com/cbagent/cbagent/internal/lab/agentproc"
)

// Part is this part.
var Part = part.Part{
	Name: "verdict",
	About: "A backend answers 500 and its circuit opens at that: from the hook that sees it to the verdict in the kernel's map, " +
		"beside the least it can be: waking a reader of a ring buffer, and a write into a map.",
	Rounds: 40, Quick: 1,
	Run: run,
}

// Each circuit opens once, so each sample has a port of its own.
const (
	samples   = 100
	firstPort = 10_000
)

func run(ctx context.Context, r *part.Run) error {
	for round := range r.Rounds {
		random := rand.New(rand.NewPCG(12, uint64(round)))
		pause := func() { time.Sleep(time.Millisecond + time.Duration(random.Int64N(int64(4*time.Millisecond)))) }
		both := []func() error{
			func() error {
				least, err := floor(ctx, r, pause)
				if err != nil {
					return err
				}
				r.Add("verdict", "floor", round, map[string]float64{
					"wake_p50_us": row.Median(least.Wake), "write_p50_us": row.Median(least.Write),
					"p50_us": row.Median(least.Both()), "p90_us": row.Percentile(least.Both(), 90), "p99_us": row.Percentile(least.Both(), 99),
				})
				return nil
			},
			func() error {
				took, since, err := sample(ctx, r, pause)
				if err != nil {
					return err
				}
				r.Add("verdict", string(peer.Cbagent), round, map[string]float64{
					"p50_us": row.Median(took), "p90_us": row.Percentile(took, 90), "p99_us": row.Percentile(took, 99),
					"since_write_p50_us": row.Median(since), "since_write_p99_us": row.Percentile(since, 99),
				})
				return nil
			},
		}
		for _, measure := range part.Turn(both, round) {
			if err := measure(); err != nil {
				return err
			}
		}
	}
	return nil
}

// open makes a network with a server on many ports.
func open(r *part.Run) (site *peer.Site, all []netip.AddrPort, s *server, err error) {
	if site, err = r.Bench.NewSite(1); err != nil {
		return nil, nil, nil, err
	}
	for i := range samples {
		all = append(all, netip.AddrPortFrom(site.Backends[0].IPv4, uint16(firstPort+i)))
	}
	s = &server{wrote: map[netip.AddrPort]time.Time{}}
	if err := s.start(site, all); err != nil {
		return nil, nil, nil, errors.Join(err, site.Close())
	}
	return site, all, s, nil
}

// sample opens a circuit after the other. took is from the hook that saw the outcome to the verdict, by the agent's own
// account; since is from just before the server wrote its answer.
func sample(ctx context.Context, r *part.Run, pause func()) (took, since []float64, err error) {
	site, all, s, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	p, err := site.Start(peer.Cbagent, peer.Settings{
		Policy: []string{"trip: [{consecutiveFailures: 1}]", "open: {duration: 5m}"}, Backends: all,
	})
	if err != nil {
		return nil, nil, err
	}
	for _, at := range all {
		pause()
		if err := call(ctx, site, at); err != nil {
			return nil, nil, err
		}
		t, err := await(ctx, p.Agent, at)
		if err != nil {
			return nil, nil, err
		}
		took, since = append(took, float64(t.Took)/1e3), append(since, float64(t.At.Sub(s.when(at)))/1e3)
	}
	return took, since, nil
}

// await returns when a circuit is open.
func await(ctx context.Context, agent *agentproc.Process, at netip.AddrPort) (agentproc.Transition, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return agent.Await(ctx, at.String(), "open", time.Time{})
}

// server answers 500 on many ports, and knows when.
type server struct {
	mu    sync.Mutex
	wrote map[netip.AddrPort]time.Time
}

func (s *server) start(site *peer.Site, all []netip.AddrPort) error {
	for _, at := range all {
		l, err := site.Backends[0].Listen(at)
		if err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed with the site
				}
				s.serve(at, c)
			}
		}()
		site.OnClose(func() error {
			err := l.Close()
			<-ended
			return err
		})
	}
	return nil
}

// serve answers one request.
func (s *server) serve(at netip.AddrPort, c net.Conn) {
	defer func() { _ = c.Close() }()
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		return // the client sees it, and fails
	}
	s.mu.Lock()
	s.wrote[at] = time.Now()
	s.mu.Unlock()
	_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

func (s *server) when(at netip.AddrPort) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrote[at]
}
