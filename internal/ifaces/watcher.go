package ifaces

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cbagent/cbagent/internal/rtnetlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	receiveBuffer = 4 << 20               // bytes of notifications that may wait; a new pod causes about 10 kB
	maxGather     = 20 * time.Millisecond // how long notifications that keep coming can put off a decision
	retryAfter    = time.Second           // until the links are read again when that failed
)

// Watcher follows the links of one network namespace and runs Select on them.
type Watcher struct {
	spec   Spec
	logger *slog.Logger
	handle *netlink.Handle
	source *rtnetlink.Subscription
	events chan Event
	cancel context.CancelFunc
	done   chan struct{}

	// Used by the goroutine run only.
	table    table
	reported map[int]Pick
	routes   bool // a default route has changed: read them again

	mu     sync.Mutex
	status Status
}

// Status is the state of a Watcher.
type Status struct {
	Picks     []Pick   // of every link, attached or not, by index
	Unmatched []string // names and globs of the spec that match nothing now
	Resyncs   uint64   // how often all links were read again because notifications were lost
	LastError string   // of the last read of the links; empty when it succeeded
}

// Watch starts to follow the links of a namespace; netns.None() is that of the calling thread. It ends with ctx or
// Close. The spec must be valid.
func Watch(ctx context.Context, logger *slog.Logger, spec Spec, ns netns.NsHandle) (*Watcher, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	handle, err := rtnetlink.OpenHandle(ns)
	if err != nil {
		return nil, err
	}
	source, err := rtnetlink.Subscribe(ns, receiveBuffer, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("follow interfaces and routes: %w", err)
	}
	w := &Watcher{
		spec: spec, logger: logger, handle: handle, source: source,
		events: make(chan Event), done: make(chan struct{}), reported: make(map[int]Pick),
	}
	if err := w.table.load(handle); err != nil {
		w.closeSockets()
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go source.Receive(ctx)
	go w.run(ctx, source.Batches())
	return w, nil
}

// Events returns the channel of changes: first one Added for each pick there is, then Synced. A slow reader does not get
// changes that were undone in between. It is closed at the end.
func (w *Watcher) Events() <-chan Event { return w.events }

// Status returns the current state, which may be newer than the events read.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Close ends the watcher and waits for its end. It does not change attachments.
func (w *Watcher) Close() error {
	w.cancel()
	<-w.done
	return nil
}

func (w *Watcher) closeSockets() {
	w.source.Close()
	w.handle.Close()
}

// run is the watcher's goroutine. It owns the table.
func (w *Watcher) run(ctx context.Context, batches <-chan rtnetlink.Batch) {
	defer close(w.done)
	defer close(w.events)
	defer w.closeSockets()
	queue := append(w.changes(w.decide()), Event{Op: Synced})
	var (
		stale   bool      // notifications were lost or unreadable: read all links again
		since   time.Time // time of the oldest change that is not in picks
		again   <-chan time.Time
		picks   []Pick
		changed bool // picks are not reported yet
		synced  bool // Synced is to be reported, too
	)
	for {
		var out chan<- Event
		var next Event
		if len(queue) > 0 {
			out, next = w.events, queue[0]
		}
		select {
		case <-ctx.Done():
			return
		case out <- next:
			queue = queue[1:]
		case <-again:
			again = nil
		case b, ok := <-batches:
			if !ok {
				return
			}
			if since.IsZero() {
				since = time.Now()
			}
			stale = !w.apply(b) || stale
		}
		gathering := len(batches) > 0 && time.Since(since) < maxGather
		if !since.IsZero() && again == nil && !gathering {
			if err := w.refresh(stale); err != nil {
				w.logger.Warn("cannot read the interfaces, trying again", "error", err)
				again = time.After(retryAfter)
				continue
			}
			picks, changed, synced = w.decide(), true, synced || stale
			stale, since = false, time.Time{}
		}
		if changed && len(queue) == 0 {
			queue = w.changes(picks)
			if synced {
				queue = append(queue, Event{Op: Synced})
			}
			changed, synced = false, false
		}
	}
}

// apply applies notifications to the table. It returns false when some are lost.
func (w *Watcher) apply(b rtnetlink.Batch) bool {
	if b.Err != nil {
		w.logger.Debug("interface notifications were lost", "error", b.Err)
		return false
	}
	for _, m := range b.Messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if !w.applyLink(m) {
				return false
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Dst_len == 0 {
				w.routes = true
			}
		}
	}
	return true
}

func (w *Watcher) applyLink(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	if info.Family == unix.AF_BRIDGE {
		return true // of a bridge's port, not of the link: its DELLINK means that the port left the bridge
	}
	if m.Header.Type == unix.RTM_DELLINK {
		w.table.remove(int(info.Index))
		w.routes = w.routes || w.table.defaults[int(info.Index)] // the kernel removes the routes of a link without a notification
		return true
	}
	header := unix.NlMsghdr(m.Header)
	link, err := netlink.LinkDeserialize(&header, m.Data)
	if err != nil {
		w.logger.Debug("cannot read an interface notification", "index", info.Index, "error", err)
		return false
	}
	l := fromNetlink(link)
	if was := w.table.links[l.Index]; was.Up && !l.Up {
		w.routes = true // the kernel removes the routes of a link that goes down without a notification, too
	}
	w.table.set(l)
	return true
}

// refresh reads what notifications do not contain; with stale, all links and routes.
func (w *Watcher) refresh(stale bool) (err error) {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.status.LastError = ""
		if err != nil {
			w.status.LastError = err.Error()
		} else if stale {
			w.status.Resyncs++
		}
	}()
	if stale {
		if err := w.table.load(w.handle); err != nil {
			return err
		}
	} else if w.routes {
		defaults, err := listDefaultRoutes(w.handle)
		if err != nil {
			return err
		}
		w.table.defaults = defaults
	}
	w.routes = false
	return nil
}

// decide runs Select on the table.
func (w *Watcher) decide() []Pick {
	links := w.table.list()
	picks := Select(links, w.spec)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Picks, w.status.Unmatched = picks, Unmatched(links, w.spec)
	return picks
}

// changes returns the differences from the reported picks, and replaces these.
func (w *Watcher) changes(picks []Pick) []Event {
	now := make(map[int]Pick, len(picks))
	for _, p := range picks {
		if p.Attach || p.Uplink {
			now[p.Link.Index] = p
		}
	}
	var removed, changed, added []Event
	for _, index := range slices.Sorted(maps.Keys(w.reported)) {
		was := w.reported[index]
		is, stays := now[index]
		switch {
		case !stays || is.Link.Born != was.Link.Born:
			removed = append(removed, Event{Op: Removed, Pick: was})
		case is.Link.Name != was.Link.Name:
			changed = append(changed, Event{Op: Renamed, Pick: is, Old: was})
		case is != was:
			changed = append(changed, Event{Op: Changed, Pick: is, Old: was})
		}
	}
	for _, p := range picks {
		was, known := w.reported[p.Link.Index]
		if (p.Attach || p.Uplink) && (!known || was.Link.Born != p.Link.Born) {
			added = append(added, Event{Op: Added, Pick: p})
		}
	}
	w.reported = now
	return slices.Concat(removed, changed, added)
}
