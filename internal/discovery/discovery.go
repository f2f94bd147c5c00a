package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// How fast changes are passed on. A change waits settle for others that belong to it (a Service of many slices changes
// them one by one), and updates are at least interval apart; so one is on its way 35 ms after its event at the latest.
const (
	settle   = 10 * time.Millisecond
	interval = 25 * time.Millisecond
)

// reloadGrace bounds how long a policy whose targets were changed keeps the backends it had, while a new source has
// not answered yet: a host replaced by the Service behind it must not lose the circuits of its backends.
const reloadGrace = 10 * time.Second

// Options set where sources get their answers. The zero value uses the system's files and has no Kubernetes API.
type Options struct {
	Kube       kubernetes.Interface // nil: policies that name services report an error
	ResolvConf string               // default /etc/resolv.conf
	HostsFile  string               // default /etc/hosts
}

// Discovery follows the sources of all policies. Its methods may be called from any goroutine.
type Discovery struct {
	logger  *slog.Logger
	kube    kubernetes.Interface
	dns     *resolver
	updates chan Update
	wake    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	stopped chan struct{}
	book    *addressBook // nil without a Kubernetes API
	reading chan struct{}
	closing sync.WaitGroup // of sources that no policy names any more; added to with mu held

	mu       sync.Mutex
	policies []*policy // in file order
	sources  map[sourceKey]source
	users    map[sourceKey][]*policy // in file order
}

// sourceKey names a source: ports share it.
type sourceKey struct {
	kind Kind
	name string
}

// source follows one host or service.
type source interface {
	// answer returns the backends behind one port, not to be changed.
	answer(port string) answer
	status() SourceStatus
	// needs sets the ports for which answer is called.
	needs(ports []string)
	close()
}

type answer struct {
	backends []Backend
	answered bool
	err      error
}

type policy struct {
	target Target
	dirty  uint64 // 0 = nothing new; else changes with each event
	since  time.Time
	sent   *Set // nil until the first
	keep   time.Time
}

// New starts an empty Discovery. Close ends it.
func New(logger *slog.Logger, opts Options) *Discovery {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Discovery{
		logger:  logger,
		kube:    opts.Kube,
		dns:     newResolver(opts.ResolvConf, opts.HostsFile),
		updates: make(chan Update),
		wake:    make(chan struct{}, 1),
		ctx:     ctx,
		cancel:  cancel,
		stopped: make(chan struct{}),
		reading: make(chan struct{}),
		sources: make(map[sourceKey]source),
	}
	go d.run()
	if d.kube == nil {
		close(d.reading)
		return d
	}
	d.book = newAddressBook(logger, d.kube, d.bookChanged)
	go func() {
		defer close(d.reading)
		d.book.run(ctx)
	}()
	return d
}

// Updates returns the channel of changes. A slow reader gets fewer and larger updates, each with the newest state. Close
// closes the channel.
func (d *Discovery) Updates() <-chan Update { return d.updates }

// Close ends all lookups and watches and waits for them.
func (d *Discovery) Close() error {
	d.cancel()
	<-d.stopped
	<-d.reading
	d.mu.Lock()
	all := d.sources
	d.sources, d.policies, d.users = make(map[sourceKey]source), nil, nil
	d.mu.Unlock()
	closeAll(all)
	d.closing.Wait()
	return nil
}

// SetPolicies replaces the targets of all policies, given in file order. Sources that stay are not disturbed. Each new
// policy gets an update, also when it has no backend yet; one whose targets are as before gets none. It does not wait for
// sources that end.
func (d *Discovery) SetPolicies(targets []Target) {
	if gone := d.setPolicies(targets); len(gone) > 0 {
		go func() { // the end of a watch may wait for the API server
			defer d.closing.Done()
			closeAll(gone)
		}()
	}
	d.book.refresh()
	d.signal()
}

func (d *Discovery) setPolicies(targets []Target) (gone map[sourceKey]source) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return nil
	}
	now := time.Now()
	old := make(map[string]*policy, len(d.policies))
	for _, p := range d.policies {
		old[p.target.Policy] = p
	}
	d.policies, d.users = nil, make(map[sourceKey][]*policy)
	ports := make(map[sourceKey][]string)
	for _, t := range targets {
		p, known := old[t.Policy]
		if !known {
			p = &policy{}
		}
		if p.sent == nil || !p.target.equal(t) {
			p.target = t
			p.touch(now)
			if known { // p.sent may be nil still although its update was just delivered
				p.keep = now.Add(reloadGrace)
			}
		}
		d.policies = append(d.policies, p)
		t.each(func(key sourceKey, port string) {
			if !slices.Contains(ports[key], port) {
				ports[key] = append(ports[key], port)
			}
			if !slices.Contains(d.users[key], p) {
				d.users[key] = append(d.users[key], p)
			}
		})
	}
	gone = make(map[sourceKey]source)
	for key, s := range d.sources {
		if len(ports[key]) == 0 {
			gone[key] = s
			delete(d.sources, key)
		}
	}
	if len(gone) > 0 {
		d.closing.Add(1)
	}
	for key, wanted := range ports {
		s := d.sources[key]
		if s == nil {
			s = d.start(key)
			d.sources[key] = s
		}
		s.needs(wanted)
	}
	return gone
}

func (d *Discovery) start(key sourceKey) source {
	changed := func() { d.changed(key) }
	logger := d.logger.With("source", key.name)
	if key.kind == KindHost {
		return newHostSource(d.ctx, logger, d.dns, key.name, changed)
	}
	if d.kube == nil {
		return unavailable{fmt.Errorf("follow service %s: %w", key.name, ErrNoKube)}
	}
	return newServiceSource(d.ctx, logger, d.kube, key.name, changed)
}

// Status returns the state of each source: hosts first, then services, each by name.
func (d *Discovery) Status() []SourceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]SourceStatus, 0, len(d.sources))
	for key, s := range d.sources {
		st := s.status()
		st.Kind, st.Name = key.kind.String(), key.name
		for _, p := range d.users[key] {
			st.Policies = append(st.Policies, p.target.Policy)
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b SourceStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// changed is called by a source whose answer has changed.
func (d *Discovery) changed(key sourceKey) {
	now := time.Now()
	d.mu.Lock()
	for _, p := range d.users[key] {
		p.touch(now)
	}
	d.mu.Unlock()
	if key.kind == KindHost {
		d.book.refresh()
	}
	d.signal()
}

// bookChanged marks all policies with addresses or hosts as dirty.
func (d *Discovery) bookChanged() {
	now := time.Now()
	d.mu.Lock()
	for _, p := range d.policies {
		if len(p.target.Addresses)+len(p.target.Hosts) > 0 {
			p.touch(now)
		}
	}
	d.mu.Unlock()
	d.signal()
}

func (d *Discovery) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run delivers changes until the context ends.
func (d *Discovery) run() {
	defer close(d.stopped)
	defer close(d.updates)
	var last time.Time
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.wake:
		}
		if !d.wait(max(settle, interval-time.Since(last))) {
			return
		}
		for {
			update, sent, again := d.gather()
			if again > 0 {
				time.AfterFunc(again, d.signal)
			}
			if len(update.Sets) == 0 {
				break
			}
			delivered, ok := d.deliver(update)
			if !ok {
				return
			}
			if delivered {
				sent()
				last = time.Now()
				break
			}
		}
	}
}

// deliver waits for the reader. delivered is false when a newer change came first; ok is false when the context ended.
func (d *Discovery) deliver(u Update) (delivered, ok bool) {
	select {
	case d.updates <- u:
		return true, true
	case <-d.wake:
		return false, d.wait(settle)
	case <-d.ctx.Done():
		return false, false
	}
}

func (d *Discovery) wait(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// gather makes an update of the policies that are dirty. The function it returns is to be called when the update has
// been delivered; again is when to gather next although no event came, 0 = never.
func (d *Discovery) gather() (u Update, sent func(), again time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	type part struct {
		p       *policy
		set     *Set
		version uint64
		keeping bool
	}
	var parts []part
	for _, p := range d.policies {
		if p.dirty == 0 {
			continue
		}
		set := d.collect(p.target)
		keeping := !set.Complete && p.sent != nil && now.Before(p.keep)
		if keeping {
			set.Backends = sortBackends(append(set.Backends, p.sent.Backends...))
			again = max(again, p.keep.Sub(now)+time.Millisecond)
		}
		if p.sent != nil && p.sent.equal(*set) {
			if !keeping {
				p.dirty = 0
			}
			continue
		}
		parts = append(parts, part{p, set, p.dirty, keeping})
		u.Sets = append(u.Sets, *set)
		if u.Since.IsZero() || p.since.Before(u.Since) {
			u.Since = p.since
		}
	}
	return u, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, x := range parts {
			x.p.sent = x.set
			x.p.since = time.Now()
			if x.p.dirty == x.version && !x.keeping {
				x.p.dirty = 0
			}
		}
	}, again
}

// collect joins the answers of the sources of one target.
func (d *Discovery) collect(t Target) *Set {
	set := &Set{Policy: t.Policy, Complete: true}
	var errs []error
	for _, a := range t.Addresses {
		set.Backends = append(set.Backends, Backend{Addr: Normalize(a), Kind: KindAddress, Source: a.String()})
	}
	t.each(func(key sourceKey, port string) {
		got := d.sources[key].answer(port)
		set.Backends = append(set.Backends, got.backends...)
		set.Complete = set.Complete && got.answered
		if got.err != nil {
			errs = append(errs, got.err)
		}
	})
	set.Backends = sortBackends(set.Backends)
	set.Err = errors.Join(append(errs, d.book.check(set.Backends)...)...)
	return set
}

func (p *policy) touch(now time.Time) {
	if p.dirty == 0 {
		p.since = now
	}
	p.dirty++
}

func (s *Set) equal(o Set) bool {
	return s.Complete == o.Complete && slices.Equal(s.Backends, o.Backends) && errorText(s.Err) == errorText(o.Err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func closeAll(all map[sourceKey]source) {
	for _, s := range all {
		s.close()
	}
}
