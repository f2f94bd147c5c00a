package neighbour

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/rtnetlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	receiveBuffer = 2 << 20          // bytes of notifications that may wait
	routesAtLeast = time.Second      // between two reads of the routes
	routesAtMost  = 30 * time.Second // rules change without a notification
	routesShare   = 20               // reading them takes at most this part of the time
	ndMsgSize     = 12               // bytes of struct ndmsg
)

// Watcher follows the neighbours and routes of one network namespace, and holds entries.
type Watcher struct {
	log      *slog.Logger
	handle   *netlink.Handle
	source   *rtnetlink.Subscription
	events   chan Event
	cancel   context.CancelFunc
	done     chan struct{}
	dead     atomic.Pointer[map[netip.Addr]Key]
	wake     chan struct{} // one of these fields has changed:
	wanted   atomic.Pointer[map[netip.Addr]bool]
	holds    atomic.Pointer[map[Key]time.Time]
	toVerify atomic.Pointer[[]netip.Addr]

	// Of the goroutine run only.
	table      Table
	addrs      map[netip.Addr]bool
	routes     map[netip.Addr]Route
	nextRoutes time.Time // when the routes are read at the latest
	lastRoutes time.Time
	routesTook time.Duration
	held       map[Key]time.Time // until when; zero: until SetHolds omits it
	queue      []Event
}

// Watch starts to follow the neighbours of a namespace; netns.None() is that of the calling thread. It ends with ctx or
// Close.
func Watch(ctx context.Context, log *slog.Logger, ns netns.NsHandle) (*Watcher, error) {
	w, err := open(log, ns)
	if err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go w.source.Receive(ctx)
	go w.run(ctx, w.source.Batches())
	return w, nil
}

// open subscribes before it lists, so that no change is missed.
func open(log *slog.Logger, ns netns.NsHandle) (*Watcher, error) {
	source, err := rtnetlink.Subscribe(ns, receiveBuffer, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("follow neighbours and routes: %w", err)
	}
	handle, err := rtnetlink.OpenHandle(ns)
	if err != nil {
		source.Close()
		return nil, err
	}
	w := &Watcher{
		log: log, handle: handle, source: source, events: make(chan Event), wake: make(chan struct{}, 1),
		done: make(chan struct{}), held: map[Key]time.Time{},
	}
	w.dead.Store(&map[netip.Addr]Key{})
	w.holds.Store(&map[Key]time.Time{})
	if err := w.list(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// Events returns the channel of failures and recoveries of the neighbours that addresses of SetAddresses are behind. It is
// closed at the end.
func (w *Watcher) Events() <-chan Event { return w.events }

// SetAddresses replaces the addresses of interest. It does not wait. The map must not change afterwards.
func (w *Watcher) SetAddresses(all map[netip.Addr]bool) {
	w.wanted.Store(&all)
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// Dead returns the addresses that are on a link and do not answer. The map must not be changed.
func (w *Watcher) Dead() map[netip.Addr]Key { return *w.dead.Load() }

// SetHolds replaces the set of dead neighbours whose entries are held, with the time until which each is held (zero: until
// a later call omits it). An entry whose time has come is removed, and a new resolution starts; one that the new set omits
// is removed. It does not wait. The map must not change afterwards.
func (w *Watcher) SetHolds(all map[Key]time.Time) {
	w.holds.Store(&all)
	w.signal()
}

// Verify makes the kernel probe neighbours at their known link-layer addresses, while it goes on to send packets there. It
// does not wait. Addresses that are not on a link, or are known to be dead, are ignored.
func (w *Watcher) Verify(all []netip.Addr) {
	w.toVerify.Store(&all)
	w.signal()
}

// Close removes the held entries, ends the watcher and waits for its end.
func (w *Watcher) Close() {
	w.cancel()
	<-w.done
}

func (w *Watcher) close() {
	w.source.Close()
	w.handle.Close()
}

// run is the watcher's goroutine. It owns the table and the holds.
func (w *Watcher) run(ctx context.Context, batches <-chan rtnetlink.Batch) {
	defer close(w.done)
	defer close(w.events)
	defer w.close()
	defer w.releaseAll()
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	routes, due := time.NewTimer(0), time.NewTimer(time.Hour)
	defer routes.Stop()
	defer due.Stop()
	stale := false // notifications were lost
	for {
		var out chan<- Event
		var next Event
		if len(w.queue) > 0 {
			out, next = w.events, w.queue[0]
		}
		select {
		case <-ctx.Done():
			return
		case out <- next:
			w.queue = w.queue[1:]
		case b, ok := <-batches:
			if !ok {
				return
			}
			stale = !w.apply(b) || stale
		case <-w.wake:
			if all := w.wanted.Swap(nil); all != nil {
				w.setAddresses(*all)
			}
			if all := w.toVerify.Swap(nil); all != nil {
				w.verify(*all)
			}
			w.setHolds(*w.holds.Load(), time.Now())
		case <-routes.C:
			w.readRoutes()
		case <-renew.C:
			w.renewAll()
		case <-due.C:
			w.releaseDue(time.Now())
		}
		if stale {
			if err := w.list(); err != nil {
				w.log.Warn("cannot list the neighbours, trying again", "error", err)
			} else {
				stale = false
			}
		}
		dead := w.table.Dead()
		if !maps.Equal(dead, w.Dead()) {
			w.dead.Store(&dead)
		}
		routes.Reset(time.Until(w.nextRoutes))
		due.Reset(time.Until(w.nextDue()))
	}
}

// apply applies notifications to the table. It returns false when some are lost.
func (w *Watcher) apply(b rtnetlink.Batch) bool {
	if b.Err != nil {
		w.log.Debug("neighbour notifications were lost", "error", b.Err)
		w.routesChanged()
		return false
	}
	for _, m := range b.Messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			w.routesChanged()
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			if len(m.Data) < ndMsgSize {
				continue
			}
			n, err := netlink.NeighDeserialize(m.Data)
			if err != nil {
				return false
			}
			if u, ok := update(n); ok {
				u.Gone, u.Admin = m.Header.Type == unix.RTM_DELNEIGH, m.Header.Pid != 0
				if ev, ok := w.table.Apply(u); ok {
					w.queue = append(w.queue, ev)
				}
			}
		}
	}
	return true
}

// update converts an entry. ok is false if it is not of an IP address, such as one of a bridge's table.
func update(n *netlink.Neigh) (u Update, ok bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok || n.Family != unix.AF_INET && n.Family != unix.AF_INET6 || n.Flags&netlink.NTF_PROXY != 0 {
		return Update{}, false
	}
	return Update{Key: Key{n.LinkIndex, addr.Unmap()}, State: n.State, MAC: string(n.HardwareAddr)}, true
}

// list reads all neighbours.
func (w *Watcher) list() error {
	all, err := w.handle.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list the neighbours: %w", err)
	}
	var updates []Update
	for i := range all {
		if u, ok := update(&all[i]); ok {
			updates = append(updates, u)
		}
	}
	w.queue = append(w.queue, w.table.Load(updates)...)
	return nil
}

func (w *Watcher) setAddresses(all map[netip.Addr]bool) {
	w.addrs = all
	start := time.Now()
	routes := make(map[netip.Addr]Route, len(all))
	for addr := range all {
		r, known := w.routes[addr]
		if !known {
			r = routeTo(w.handle, addr)
		}
		routes[addr] = r
	}
	w.setRoutes(routes, start)
}

// readRoutes reads the routes to all addresses of interest.
func (w *Watcher) readRoutes() {
	start := time.Now()
	routes := make(map[netip.Addr]Route, len(w.addrs))
	for addr := range w.addrs {
		routes[addr] = routeTo(w.handle, addr)
	}
	w.routesTook = time.Since(start)
	w.lastRoutes = start
	w.nextRoutes = start.Add(max(routesAtMost, routesShare*w.routesTook))
	w.setRoutes(routes, start)
}

func (w *Watcher) setRoutes(routes map[netip.Addr]Route, start time.Time) {
	w.routes = routes
	w.table.SetRoutes(routes)
	w.log.Debug("routes to backends", "addresses", len(routes), "took", time.Since(start))
}

// routesChanged schedules a read of the routes: soon, but not for each of many changes.
func (w *Watcher) routesChanged() {
	soon := w.lastRoutes.Add(max(routesAtLeast, routesShare*w.routesTook))
	if soon.Before(w.nextRoutes) {
		w.nextRoutes = soon
	}
}
