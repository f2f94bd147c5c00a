// Package scale measures how the cost of the agent grows with the backends that it watches and the connections that
// it follows.
package scale

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/bench/wire"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Part is this part.
var Part = part.Part{
	Name: "scale",
	About: "One client sends requests on a kept connection to one of 10 to 100,000 backends, or past 1,000 to 1,000,000 idle connections; " +
		"then a new policy rejects clients of all backends. HAProxy with 1,000 servers holds as many connections as one process may open files.",
	Rounds: 5, Quick: 1,
	Run: run,
}

func run(ctx context.Context, r *part.Run) error {
	backends, flows := []int{10, 1_000, 10_000, 100_000}, []int{1_000, 10_000, 50_000, 100_000, 1_000_000}
	if r.Quick {
		backends, flows = []int{10, 10_000}, []int{1_000, 50_000}
	}
	for round := range r.Rounds {
		for _, n := range part.Turn(backends, round) {
			values, err := growBackends(ctx, r, n)
			if err != nil {
				return fmt.Errorf("%d backends: %w", n, err)
			}
			r.Add(fmt.Sprintf("backends/%d", n), string(peer.Cbagent), round, values)
		}
		if err := growFlows(ctx, r, round, flows); err != nil {
			return fmt.Errorf("flows: %w", err)
		}
		if err := holdConnections(ctx, r, round); err != nil {
			return fmt.Errorf("connections of HAProxy: %w", err)
		}
	}
	return nil
}

// place is an agent that watches the real backend and others.
type place struct {
	*peer.Peer
	site   *peer.Site
	policy string // path of its policy file
	start  time.Duration
}

// othersFrom is the first of the addresses of backends that nobody calls.
var othersFrom = netip.MustParseAddr("10.64.0.1")

// open starts an agent with n backends, the last of them real, and some more for made-up connections.
func open(r *part.Run, n int, flows int) (p place, err error) {
	if p.site, err = r.Bench.NewSite(1); err != nil {
		return p, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.site.Close())
		}
	}()
	if err := p.site.ServeWire(0); err != nil {
		return p, err
	}
	var all []netip.AddrPort
	for at := othersFrom; len(all) < n-1; at = at.Next() {
		all = append(all, netip.AddrPortFrom(at, peer.BackendPort))
	}
	all = append(append(all, services(p.site, flows)...), p.site.Backend(0))
	folder, err := os.MkdirTemp("", "cbagent-scale-")
	if err != nil {
		return p, fmt.Errorf("make a folder: %w", err)
	}
	p.site.OnClose(func() error { return os.RemoveAll(folder) })
	p.policy = filepath.Join(folder, "policy.yaml")
	if err := p.replace(peer.PolicyFile(peer.Settings{}, all...)); err != nil {
		return p, err
	}
	circuits := max(16384, len(all)+len(all)/8)
	began := time.Now()
	p.Peer, err = p.site.StartAgentWith(p.policy, "--max-circuits", fmt.Sprint(circuits),
		"--max-flows", fmt.Sprint(max(262144, flows+flows/8)))
	p.start = time.Since(began)
	return p, err
}

// replace puts a policy in place, as a whole.
func (p place) replace(text string) error {
	next := p.policy + ".next"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	if err := os.Rename(next, p.policy); err != nil {
		return fmt.Errorf("replace the policy: %w", err)
	}
	return nil
}

// growBackends measures an agent with n backends.
func growBackends(ctx context.Context, r *part.Run, n int) (values map[string]float64, err error) {
	p, err := open(r, n, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.site.Close()) }()
	if values, err = p.cost(ctx, r); err != nil {
		return nil, err
	}
	values["start_ms"] = ms(p.start)
	// Of all backends a verdict is to be told; the real one is the last in the file.
	text, err := os.ReadFile(p.policy)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	pid := p.Agent.Pid()
	cpu, err := usage.CPU(pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := p.replace(string(text) + "  mode: forced-open\n"); err != nil {
		return nil, err
	}
	if err := p.awaitRejection(ctx); err != nil {
		return nil, err
	}
	values["verdict_for_all_ms"] = ms(time.Since(began))
	if err := p.awaitQuiet(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	after, err := usage.CPU(pid)
	if err != nil {
		return nil, err
	}
	values["reload_cpu_ms"] = ms(after - cpu)
	rss, err := usage.RSS(pid)
	values["rss_after_reload_mb"] = mb(rss)
	return values, err
}

// awaitRejection calls the real backend until the kernel answers.
func (p place) awaitRejection(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		result, err := p.site.Load(wire.Load{Target: p.Target, Clients: 1, For: time.Second, Requests: 1})
		if err == nil && result.ByStatus[503] == 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the backend's clients are not rejected: %w", context.Cause(ctx))
		case <-p.Agent.Ended():
			return p.Agent.Complaint("the agent ended")
		case <-time.After(time.Millisecond):
		}
	}
}

// awaitQuiet returns when the agent has used less than a tenth of a core for a quarter of a second.
func (p place) awaitQuiet(ctx context.Context, atMost time.Duration) error {
	const watch = 250 * time.Millisecond
	for deadline := time.Now().Add(atMost); time.Now().Before(deadline); {
		before, err := usage.CPU(p.Agent.Pid())
		if err != nil {
			return err
		}
		select {
		case <-time.After(watch):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := usage.CPU(p.Agent.Pid())
		if err != nil {
			return err
		}
		if after-before < watch/10 {
			return nil
		}
	}
	return nil
}

// cost measures what a packet costs now, and what the agent costs while it has nothing to do.
func (p place) cost(ctx context.Context, r *part.Run) (map[string]float64, error) {
	watch, length := 2*time.Second, 500*time.Millisecond
	if r.Quick {
		watch, length = time.Second, 200*time.Millisecond
	}
	if err := p.awaitQuiet(ctx, 5*time.Second); err != nil {
		return nil, err
	}
	pid := p.Agent.Pid()
	before, err := usage.CPU(pid)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(watch):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := usage.CPU(pid)
	if err != nil {
		return nil, err
	}
	load := wire.Load{Target: p.Target, Clients: 1, For: length, KeepOpen: true}
	plain, err := p.site.Load(load)
	if err != nil {
		return nil, err
	}
	runs, err := p.runs(load)
	if err != nil {
		return nil, err
	}
	rss, err := usage.RSS(pid)
	if err != nil {
		return nil, err
	}
	maps, err := usage.MapMemory(pid)
	if err != nil {
		return nil, err
	}
	took, size, err := p.scrape(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		"scrape_ms": ms(took), "scrape_kb": float64(size) / 1024,
		"p50_us": float64(plain.P50) / 1e3, "p99_us": float64(plain.P99) / 1e3,
		"idle_cpu_ms_per_s": ms(after-before) / watch.Seconds(),
		"rss_mb":            mb(rss), "map_memory_mb": mb(maps),
		"ns_per_packet": float64(runs.Time) / float64(max(1, runs.Count)),
	}, nil
}

// runs returns the runs of the programs that packets meet, during a load.
func (p place) runs(load wire.Load) (usage.Runs, error) {
	enabled, err := usage.Enable()
	if err != nil {
		return usage.Runs{}, err
	}
	defer func() { _ = enabled.Close() }()
	before, err := usage.Programs(p.Agent.Pid())
	if err != nil {
		return usage.Runs{}, err
	}
	if _, err := p.site.Load(load); err != nil {
		return usage.Runs{}, err
	}
	after, err := usage.Programs(p.Agent.Pid())
	if err != nil {
		return usage.Runs{}, err
	}
	var sum usage.Runs
	for name, a := range after {
		d := a.Sub(before[name])
		// The sweep is no packet's cost.
		if !strings.Contains(name, "sweep") {
			sum.Count += d.Count
			sum.Time += d.Time
		}
	}
	if sum.Count == 0 {
		return sum, fmt.Errorf("no program ran during the load: %v", after)
	}
	return sum, nil
}

// growFlows measures an agent with 1,000 backends while idle connections are added.
func growFlows(ctx context.Context, r *part.Run, round int, steps []int) (err error) {
	p, err := open(r, 1000, steps[len(steps)-1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.site.Close()) }()
	if err := deafen(p.site); err != nil {
		return err
	}
	have := 0
	for _, n := range steps {
		if err := makeFlows(ctx, p.site, have, n-have); err != nil {
			return err
		}
		have = n
		values, err := p.cost(ctx, r)
		if err != nil {
			return err
		}
		r.Add(fmt.Sprintf("flows/%d", n), string(peer.Cbagent), round, values)
	}
	return nil
}

// holdConnections measures what HAProxy needs for 1,000 servers and the connections that one process can hold.
func holdConnections(ctx context.Context, r *part.Run, round int) (err error) {
	if len(r.Peers(peer.HAProxy)) == 0 {
		return nil
	}
	const servers, connections = 1000, 9000
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if err := site.ServeWire(0); err != nil {
		return err
	}
	var more strings.Builder
	for i, at := 1, othersFrom; i < servers; i, at = i+1, at.Next() {
		fmt.Fprintf(&more, "\n  server s%d %s:%d weight 0", i, at, peer.BackendPort)
	}
	p, err := site.Start(peer.HAProxy, peer.Settings{HAProxyServer: more.String()})
	if err != nil {
		return err
	}
	for _, n := range []int{0, connections} {
		hold, err := holdOpen(ctx, site.Client, p.Target, n)
		if err != nil {
			return err
		}
		rss, e := usage.RSS(usage.Tree(p.Pids[0])...)
		hold()
		if e != nil {
			return e
		}
		r.Add(fmt.Sprintf("connections/%d", n), string(peer.HAProxy), round, map[string]float64{"rss_mb": mb(rss)})
	}
	return nil
}

// holdOpen opens connections that each carry one request and stay.
func holdOpen(ctx context.Context, in *netlab.Namespace, to netip.AddrPort, n int) (close func(), err error) {
	var all []interface{ Close() error }
	close = func() {
		for _, c := range all {
			_ = c.Close()
		}
	}
	answer := make([]byte, 4096)
	for range n {
		c, err := in.DialContext(ctx, "tcp", to.String())
		if err != nil {
			close()
			return nil, fmt.Errorf("open connection %d: %w", len(all), err)
		}
		all = append(all, c)
		_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
		if err == nil {
			err = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		}
		if err == nil {
			_, err = c.Read(answer)
		}
		if err != nil {
			close()
			return nil, fmt.Errorf("use connection %d: %w", len(all), err)
		}
	}
	return close, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mb(bytes uint64) float64 { return float64(bytes) / (1 << 20) }
