// Package verdict measures how long it takes from an outcome to the verdict that follows from it.
package verdict

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/stat"
	"github.com/cbagent/cbagent/internal/agentproc"
	"github.com/cbagent/cbagent/internal/loadgen"
)

// Part is this part.
var Part = part.Part{
	Name: "verdict",
	About: "A backend answers 500 and its circuit opens at that: from the hook that sees it to the verdict in the kernel's map, " +
		"beside the least it can be: waking a reader of a ring buffer, and a write into a map.",
	Rounds: 10, Quick: 1,
	Run: run,
}

// Each circuit opens once, so each sample has a port of its own.
const (
	samples   = 100
	firstPort = 10_000
)

func run(ctx context.Context, r *part.Run) error {
	f, err := openFloor()
	if err != nil {
		return err
	}
	defer func() { _ = f.close() }()
	for round := range r.Rounds {
		random := rand.New(rand.NewPCG(12, uint64(round)))
		pause := func() { time.Sleep(time.Millisecond + time.Duration(random.Int64N(int64(4*time.Millisecond)))) }
		wake, write, err := f.sample(samples, pause)
		if err != nil {
			return err
		}
		r.Add("verdict", "floor", round, map[string]float64{
			"wake_p50_us": stat.Median(wake), "wake_p99_us": stat.Percentile(wake, 99),
			"write_p50_us": stat.Median(write), "p50_us": stat.Median(wake) + stat.Median(write),
		})
		took, since, err := sample(ctx, r, pause)
		if err != nil {
			return err
		}
		r.Add("verdict", string(peer.Cbagent), round, map[string]float64{
			"p50_us": stat.Median(took), "p90_us": stat.Percentile(took, 90), "p99_us": stat.Percentile(took, 99),
			"since_write_p50_us": stat.Median(since), "since_write_p99_us": stat.Percentile(since, 99),
		})
	}
	return nil
}

// sample opens a circuit after the other. took is from the hook that saw the outcome to the verdict, by the agent's own
// account; since is from just before the server wrote its answer.
func sample(ctx context.Context, r *part.Run, pause func()) (took, since []float64, err error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	var all []netip.AddrPort
	for i := range samples {
		all = append(all, netip.AddrPortFrom(site.Backends[0].IPv4, uint16(firstPort+i)))
	}
	s := &server{wrote: map[netip.AddrPort]time.Time{}}
	if err := s.start(site, all); err != nil {
		return nil, nil, err
	}
	folder, err := os.MkdirTemp("", "cbagent-verdict-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path := filepath.Join(folder, "policy.yaml")
	text := peer.PolicyFile(peer.Settings{Policy: []string{"trip: [{consecutiveFailures: 1}]", "open: {duration: 5m}"}}, all...)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, nil, fmt.Errorf("write the policy: %w", err)
	}
	p, err := site.StartAgentWith(path)
	if err != nil {
		return nil, nil, err
	}
	for _, at := range all {
		pause()
		t, err := open(ctx, site, p.Agent, at)
		if err != nil {
			return nil, nil, err
		}
		took, since = append(took, float64(t.Took)/1e3), append(since, float64(t.At.Sub(s.when(at)))/1e3)
	}
	return took, since, nil
}

// open makes one call, and waits until the circuit is open.
func open(ctx context.Context, site *peer.Site, agent *agentproc.Process, at netip.AddrPort) (agentproc.Transition, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := &loadgen.Client{Dial: site.Client.DialContext, Target: at}
	defer c.Close()
	if res := c.Do(ctx, loadgen.Request{}); res.Status != http.StatusInternalServerError {
		return agentproc.Transition{}, fmt.Errorf("the backend answered %s: %w", res.Outcome(), res.Err)
	}
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
		return // the caller sees it, and fails
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
