package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netns"

	"github.com/cbagent/cbagent/internal/attach"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/lease"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/neighbour"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/records"
	"github.com/cbagent/cbagent/internal/serve"
	"github.com/cbagent/cbagent/internal/statedir"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/tracing"
	"github.com/cbagent/cbagent/internal/unreachable"
)

// tick is the interval at which totals are read and time-driven transitions are made.
const tick = 100 * time.Millisecond

// Sweeps time out requests and SYNs that get no reply. They take at most a hundredth of the time, and a twentieth while
// something is about to time out.
const (
	sweepShare  = 100
	urgentShare = 20
)

// maxSweepPause is the longest pause between two sweeps, and so the longest delay until a time-out is found.
const maxSweepPause = 250 * time.Millisecond

// Agent is the running breaker of a node: the event loop and its parts. Each part owns its state.
type Agent struct {
	cfg Config

	interfaces *attach.Interfaces
	entries    *attach.Entries
	servers    *serve.Servers
	tracers    *tracing.Tracers
	dir        *statedir.Dir
	unread     unreadLog // used by the event loop only

	mu sync.Mutex // protects the fields below; the reader of events takes it for each batch
	inForce
	lease     *lease.Lease
	reloads   reloads
	discovery *discovery.Discovery
	lastSweep loader.SweepResult
	recovered uint64 // events since the start

	health health

	urgentSweep  chan struct{} // a sweep is requested by the programs
	soonestSweep int64         // earliest time of the next sweep, for the event loop

	viewing sync.RWMutex // held by readers of the kernel's counts that do not hold mu
	closed  bool         // protected by viewing
}

// closing is how long Close waits for the disk, and how long for the receivers of notifications.
const closing = time.Second

// New loads the programs. It attaches nothing yet.
func New(cfg Config) (*Agent, error) {
	cfg.Datapath.Logger = cfg.Logger
	dp, err := loader.Load(cfg.Datapath)
	if err != nil {
		return nil, err
	}
	a, err := newAgent(cfg, dp, tables.Now)
	if err != nil {
		return nil, errors.Join(err, dp.Close())
	}
	return a, nil
}

// newAgent returns an agent that works on dp. clock is the kernel's monotonic time in ns.
func newAgent(cfg Config, dp datapath, clock func() int64) (*Agent, error) {
	a := &Agent{
		cfg:        cfg,
		interfaces: attach.New(dp, cfg.Logger, cfg.XDP),
		entries:    attach.NewEntries(dp, cfg.Logger, cfg.AtEntry),
		servers:    serve.New(cfg.Logger),
		health:     health{started: time.Now()},

		urgentSweep: make(chan struct{}, 1),
	}
	a.inForce = newInForce(&a.cfg, dp, clock)
	var err error
	if a.dir, err = statedir.Open(cfg.StateDir, cfg.Logger); err != nil {
		return nil, err
	}
	a.tracers = tracing.New(a.useTrace)
	a.records = records.New(a.dir.History, cfg.Logger, clock, cfg.Happened)
	a.saver = statedir.NewSaver(statedir.NewFile(cfg.statePath(), a.log), a.stateToSave, clock)
	a.lease = lease.New(leaseKernel{dp}, cfg.Lease, leaseReported(a.dir.History))
	a.inherit()
	return a, nil
}

// Close detaches the programs and frees resources. See loader.Datapath.Close for what stays in the kernel.
func (a *Agent) Close() error {
	a.mu.Lock()
	saved := a.saver.Save()
	a.mu.Unlock()
	if err := a.saver.Await(saved, closing); err != nil {
		a.log.Error("cannot write the state file: the next agent does not know who forced a circuit, nor backoff steps", "error", err)
	}
	a.viewing.Lock()
	defer a.viewing.Unlock()
	a.closed = true
	a.records.Close(closing)
	a.dir.History.Close(closing)
	return errors.Join(a.dp.Close(), a.dir.Close())
}

// Run runs the event loop until ctx is done. It returns an error if it cannot start, or if its datapath is gone.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pods, err := cgroup.Find(a.cfg.PodsCgroup, a.cfg.NodeName != "")
	if err != nil {
		return err
	}
	if err := attach.Pods(a.dp, a.log, pods); err != nil {
		return err
	}
	stop, err := a.servers.Open(a.cfg.Serve, a)
	if err != nil {
		return err
	}
	defer stop()

	var first policy.Update
	for got := false; !got; {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-a.cfg.Policies:
			if !ok {
				return nil // they end with ctx
			}
			first, got = u, !errors.Is(u.Err, ErrNotYet)
			a.mu.Lock()
			a.health.waits = u.Err
			a.mu.Unlock()
		}
	}
	if first.Err != nil {
		return first.Err
	}
	finder := discovery.New(a.log, discovery.Options{Kube: a.cfg.Kube})
	defer finder.Close()
	a.mu.Lock()
	a.discovery = finder
	a.mu.Unlock()
	links, err := ifaces.Watch(ctx, a.log, a.cfg.Interfaces, netns.None())
	if err != nil {
		return err
	}
	defer links.Close()
	// Policies before interfaces: the verdicts of adopted programs are up to date before these programs are replaced.
	a.mu.Lock()
	a.lease.Renew(a.clock())
	err = a.applyPolicies(first.Set)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	if err := a.interfaces.Sync(links); err != nil {
		return err
	}
	if err := attach.Early(a.dp, a.cfg.Connect, a.cfg.Lookup); err != nil {
		return err
	}
	if err := a.dp.Prune(); err != nil {
		a.log.Warn("cannot remove all that a former agent left", "error", err)
	}
	a.entries.Turn(a.clock())
	neighbours, err := neighbour.Watch(ctx, a.log, netns.None())
	if err != nil {
		return err
	}
	defer neighbours.Close()

	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.readEvents(ctx); err != nil {
			failed <- err
		}
	})
	defer wg.Wait()
	defer cancel()
	a.mu.Lock()
	a.noteReady()
	a.mu.Unlock()
	return a.loop(ctx, links, neighbours, failed)
}

func (a *Agent) loop(ctx context.Context, links *ifaces.Watcher, neighbours *neighbour.Watcher, failed <-chan error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	sweeps := time.NewTimer(tick)
	defer sweeps.Stop()
	policies, updates, linkEvents := a.cfg.Policies, a.discovery.Updates(), links.Events()
	neighbourEvents := neighbours.Events()
	reactor := unreachable.New(neighbours, a.dp, a.unreachableCircuits, a.interfaces.Answers, a.log, a.cfg.NeighbourHold)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-ticker.C:
			a.onTick()
			a.entries.Turn(a.clock())
			reactor.Turn(a.clock())
			a.warnUnread(a.clock())
		case <-sweeps.C:
			sweeps.Reset(a.onSweep())
		case <-a.urgentSweep:
			sweeps.Reset(max(0, time.Duration(a.soonestSweep-a.clock())))
		case u, ok := <-policies:
			if !ok {
				policies = nil
				continue
			}
			a.onPolicies(u)
		case u, ok := <-updates:
			if !ok {
				updates = nil
				continue
			}
			a.onBackends(u)
		case e, ok := <-linkEvents:
			if !ok {
				linkEvents = nil
				continue
			}
			a.onLink(e)
		case e, ok := <-neighbourEvents:
			if !ok {
				neighbourEvents = nil
				continue
			}
			reactor.Apply(e, a.clock())
		}
	}
}

// readEvents applies the ring's events to the circuits, in batches of what the ring holds.
func (a *Agent) readEvents(ctx context.Context) error {
	for ctx.Err() == nil {
		// Short enough to notice the end of ctx soon, long enough to cost little.
		ev, err := a.dp.NextEvent(time.Now().Add(tick))
		switch {
		case errors.Is(err, tables.ErrNoEvent):
			continue
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		a.mu.Lock()
		// A batch is bounded so that a flood of failures does not keep the others waiting.
		for n := 1; ; n++ {
			a.onEvent(&ev)
			if n == 4096 || a.dp.EventsWaiting() == 0 {
				break
			}
			if ev, err = a.dp.NextEvent(time.Unix(0, 1)); err != nil {
				break
			}
		}
		a.mu.Unlock()
		if err != nil && !errors.Is(err, tables.ErrNoEvent) && !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return nil
}

func (a *Agent) onTick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn(a.clock())
}

// onLink handles an event of an interface.
func (a *Agent) onLink(e ifaces.Event) {
	a.interfaces.Apply(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses.Expire() // the node's addresses may change with a link
}

// turn does the periodic work that is due.
func (a *Agent) turn(now int64) {
	a.health.ticked.Store(time.Now().UnixNano())
	a.lease.Renew(now)
	a.recordLease(now)
	a.noteRepairs(a.book.Advance(now))
	for _, p := range a.policies {
		if n := p.group.Ejected(); n != p.ejected {
			p.ejected = n
			a.saver.Changed() // a half-open circuit that becomes idle has no event
		}
	}
	a.refreshAddresses(now)
	a.ageLearned(now)
	a.forgetInherited(now)
	a.reusePlaces(now)
	a.retryPolicies(now)
	a.saver.Turn(now)
	a.interfaces.Retry()
	if a.cfg.Alive != nil {
		a.cfg.Alive()
	}
}

// onSweep times out requests and SYNs that get no reply, and returns how long to wait before the next call. Policies that
// watch pending requests are judged at once if their deadline has passed, and not only at the next turn.
func (a *Agent) onSweep() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.sweep(a.clock())
	now := a.clock()
	for _, p := range a.policies {
		if p.watchesPending && p.group.NextDeadline() <= breaker.Time(now) {
			a.turn(now)
			break
		}
	}
	return max(time.Millisecond, time.Duration(next-a.clock()))
}

// sweep sweeps the connections and returns how long to wait before the next sweep.
func (a *Agent) sweep(now int64) (next int64) {
	a.interfaces.ForgetGone(a.cfg.Idle)
	res, err := a.dp.Sweep(a.cfg.Idle)
	if err != nil {
		a.log.Error("cannot sweep the connections", "error", err)
		return now + int64(time.Second)
	}
	a.lastSweep = res
	next = now + int64(sweepPause(tick, sweepShare*res.Took))
	soonest := now + int64(sweepPause(tick/20, urgentShare*res.Took))
	a.soonestSweep = soonest
	if res.Due > 0 {
		next = min(next, max(res.Due, soonest))
	}
	watched := false
	for _, p := range a.policies {
		watched = watched || p.watchesPending
	}
	if !watched {
		return next
	}
	for _, c := range a.circuits {
		if c == nil || !c.policy.watchesPending {
			continue
		}
		since, ok := a.dp.Pending(c.id, res.Number)
		c.circuit.SetOldestPending(breaker.Time(since), ok)
	}
	for _, p := range a.policies {
		if p.watchesPending {
			next = min(next, max(int64(p.group.NextDeadline()), soonest))
		}
	}
	return next
}

// sweepPause bounds the pause after a sweep: at least the shortest one, at most maxSweepPause.
func sweepPause(shortest, pause time.Duration) time.Duration {
	return min(max(shortest, pause), maxSweepPause)
}

// noteReady logs once that policies are in force, as soon as discovery has reported each policy.
func (a *Agent) noteReady() {
	if a.health.ready || !a.reported() {
		return
	}
	a.health.ready = true
	a.log.Info("ready", "policies", len(a.policies), "circuits", a.circuitCount(), "interfaces", a.interfaces.Names())
	if a.cfg.Ready != nil {
		a.cfg.Ready()
	}
}
