package agent

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/neighbour"
	"github.com/vishvananda/netns"
)

// addressesEvery is how often the watcher of neighbours is given the backends' addresses, and those to verify.
const addressesEvery = time.Second

// backendsNamed is how many backends a log line names.
const backendsNamed = 8

// neighbours is what the agent knows of neighbours that do not answer. It belongs to the event loop.
type neighbours struct {
	watcher       *neighbour.Watcher
	nextAddresses int64
	addresses     map[netip.Addr]bool     // as given to the watcher
	holds         map[neighbour.Key]int64 // as given to the watcher
	verified      map[int]uint32          // generations of openings whose neighbours were verified, by circuit
	failed        map[netip.Addr]bool     // behind neighbours that did not answer since the last turn
	failedAt      int64                   // when the last of them failed
}

// watchNeighbours starts to follow the neighbours of the node.
func (a *Agent) watchNeighbours(ctx context.Context) error {
	w, err := neighbour.Watch(ctx, a.log, netns.None())
	if err != nil {
		return err
	}
	a.neighbours = neighbours{watcher: w, failed: map[netip.Addr]bool{}}
	return nil
}

// onNeighbour takes note of a neighbour that did not answer, or does again. What follows is done at the next turn: one failure
// of a router, or of many hosts at once, is one pass over the connections.
func (a *Agent) onNeighbour(e neighbour.Event) {
	n := &a.neighbours
	if e.Failed {
		for _, addr := range e.Behind {
			n.failed[addr] = true
		}
		n.failedAt = loader.Now()
	}
	if !e.First {
		return
	}
	named, count := a.backendsAt(e.Behind)
	if count == 0 {
		return
	}
	attrs := []any{"neighbour", e.Neighbour.Addr, "interface", interfaceName(e.Neighbour.Link), "backends", named, "count", count}
	if e.Failed {
		a.log.Warn("neighbour does not answer", attrs...)
	} else {
		a.log.Info("neighbour answers again", attrs...)
	}
}

// backendsAt returns the first of the backends that have one of the addresses, and how many there are.
func (a *Agent) backendsAt(addrs []netip.Addr) (named []string, count int) {
	at := map[netip.Addr]bool{}
	for _, addr := range addrs {
		at[addr] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for u := range a.unreachable(at) {
		count++
		if count <= backendsNamed {
			named = append(named, u.Backend.Addr.String())
		}
	}
	return named, count
}

// unreachable yields the backends that have one of the addresses, with their circuits. Callers hold mu.
func (a *Agent) unreachable(at map[netip.Addr]bool) func(yield func(loader.Unreachable) bool) {
	return func(yield func(loader.Unreachable) bool) {
		for _, c := range a.circuits {
			if c == nil {
				continue
			}
			for addr := range c.backends {
				u := loader.Unreachable{Backend: loader.Backend{Addr: addr, Direction: loader.Direction(c.policy.Direction)}, Circuit: c.id}
				if at[addr.Addr()] && !yield(u) {
					return
				}
			}
		}
	}
}

func interfaceName(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}

// turnNeighbours does what is due about neighbours that do not answer.
func (a *Agent) turnNeighbours(now int64) {
	a.recordUnreachable()
	n := &a.neighbours
	if now >= n.nextAddresses {
		n.nextAddresses = now + int64(addressesEvery)
		if all := a.backendAddresses(); !maps.Equal(all, n.addresses) {
			n.addresses = all
			n.watcher.SetAddresses(all)
		}
		a.verifyNeighbours(now)
	}
	a.holdNeighbours(now)
}

// recordUnreachable has the kernel record the attempts that failed since the last turn.
func (a *Agent) recordUnreachable() {
	n := &a.neighbours
	if len(n.failed) == 0 {
		return
	}
	var all []loader.Unreachable
	a.mu.Lock()
	for u := range a.unreachable(n.failed) {
		all = append(all, u)
	}
	a.mu.Unlock()
	clear(n.failed)
	if len(all) == 0 {
		return
	}
	res, err := a.dp.RecordUnreachable(n.failedAt, all)
	if err != nil {
		a.log.Error("outcomes of backends that cannot be reached", "error", err)
	}
	a.log.Debug("backends cannot be reached", "backends", len(all), "attempts", res.Ended, "unseen", res.Unseen)
}

// backendAddresses returns the addresses of all backends.
func (a *Agent) backendAddresses() map[netip.Addr]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[netip.Addr]bool, len(a.circuits))
	for _, c := range a.circuits {
		if c == nil {
			continue
		}
		for addr := range c.backends {
			all[addr.Addr()] = true
		}
	}
	return all
}
