// Package unreachable reacts to neighbours that do not answer address resolution: it records the failed attempts to reach
// the backends behind them, holds the neighbours' entries while circuits reject, and verifies the neighbours before a
// circuit probes.
package unreachable

import (
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/neighbour"
	"github.com/cbagent/cbagent/internal/tables"
)

// addressesEvery is the interval at which the watcher gets the backends' addresses, and the neighbours to verify.
const addressesEvery = time.Second

// maxNamed is how many backends a log line names at most.
const maxNamed = 8

// Watcher is the part of neighbour.Watcher that Reactor uses.
type Watcher interface {
	SetAddresses(map[netip.Addr]bool)
	SetHolds(map[neighbour.Key]time.Time)
	Verify([]netip.Addr)
	Dead() map[netip.Addr]neighbour.Key
}

// Recorder is the part of loader.Datapath that Reactor uses.
type Recorder interface {
	RecordUnreachable(at int64, all []tables.Unreachable) (loader.UnreachableResult, error)
}

// Circuit describes a circuit in force for Reactor.
type Circuit struct {
	ID        int
	Direction tables.Direction
	Backends  map[netip.AddrPort]discovery.Backend // must be neither changed nor stored
	Verdict   ledger.Verdict
	Answers   bool // clients that it rejects get an answer packet
}

// Circuits yields all circuits in force. It may hold the agent's lock meanwhile.
type Circuits func(yield func(Circuit) bool)

// Reactor is used by the event loop only.
type Reactor struct {
	watcher  Watcher
	kernel   Recorder
	circuits Circuits
	answers  func(link int) bool // whether the programs answer packets that leave by an interface
	log      *slog.Logger
	hold     bool // whether entries of dead neighbours are held

	nextAddresses int64
	addresses     map[netip.Addr]bool     // as given to the watcher
	holds         map[neighbour.Key]int64 // as given to the watcher
	verified      map[int]uint32          // generations of openings whose neighbours were verified, by circuit
	failed        map[netip.Addr]bool     // behind neighbours that did not answer since the last turn
	failedAt      int64                   // when the last of them failed
}

// New returns a Reactor for the neighbours that the watcher follows. answers reports whether the programs answer packets
// that leave by an interface; with hold false no entries are held.
func New(w Watcher, kernel Recorder, circuits Circuits, answers func(link int) bool, log *slog.Logger, hold bool) *Reactor {
	return &Reactor{
		watcher: w, kernel: kernel, circuits: circuits, answers: answers, log: log, hold: hold, failed: map[netip.Addr]bool{},
	}
}

// Apply notes that a neighbour did not answer, or answers again. The next Turn reacts to it, so that a failure of a router,
// or of many hosts at once, takes one pass over the connections. now is the kernel's monotonic time in ns.
func (r *Reactor) Apply(e neighbour.Event, now int64) {
	if e.Failed {
		for _, addr := range e.Behind {
			r.failed[addr] = true
		}
		r.failedAt = now
	}
	if !e.First {
		return
	}
	at := map[netip.Addr]bool{}
	for _, addr := range e.Behind {
		at[addr] = true
	}
	found := r.backendsAt(at)
	if len(found) == 0 {
		return
	}
	var named []string
	for _, u := range found[:min(len(found), maxNamed)] {
		named = append(named, u.Backend.Addr.String())
	}
	attrs := []any{"neighbour", e.Neighbour.Addr, "interface", interfaceName(e.Neighbour.Link), "backends", named, "count", len(found)}
	if e.Failed {
		r.log.Warn("neighbour does not answer", attrs...)
	} else {
		r.log.Info("neighbour answers again", attrs...)
	}
}

// backendsAt returns the backends that have one of the addresses, with their circuits.
func (r *Reactor) backendsAt(at map[netip.Addr]bool) []tables.Unreachable {
	var all []tables.Unreachable
	for c := range r.circuits {
		for addr := range c.Backends {
			if at[addr.Addr()] {
				all = append(all, tables.Unreachable{Backend: tables.Backend{Addr: addr, Direction: c.Direction}, Circuit: c.ID})
			}
		}
	}
	return all
}

func interfaceName(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}

// Turn does the work that is due. now is the kernel's monotonic time in ns.
func (r *Reactor) Turn(now int64) {
	r.record()
	if now >= r.nextAddresses {
		r.nextAddresses = now + int64(addressesEvery)
		if all := r.backendAddresses(); !maps.Equal(all, r.addresses) {
			r.addresses = all
			r.watcher.SetAddresses(all)
		}
		r.verify(now)
	}
	r.holdEntries(now)
}

// record makes the kernel record the attempts that failed since the last turn.
func (r *Reactor) record() {
	if len(r.failed) == 0 {
		return
	}
	all := r.backendsAt(r.failed)
	clear(r.failed)
	if len(all) == 0 {
		return
	}
	res, err := r.kernel.RecordUnreachable(r.failedAt, all)
	if err != nil {
		r.log.Error("cannot record that backends are unreachable", "error", err)
	}
	r.log.Debug("backends are unreachable", "backends", len(all), "attempts", res.Ended, "unseen", res.Unseen)
}

// backendAddresses returns the addresses of all backends.
func (r *Reactor) backendAddresses() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for c := range r.circuits {
		for addr := range c.Backends {
			all[addr.Addr()] = true
		}
	}
	return all
}
