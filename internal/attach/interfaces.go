// Package attach keeps the programs attached where the policies need them: to the chosen interfaces, to uplinks by XDP, to
// a cgroup and to a network namespace. It also lists the node's own addresses.
package attach

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/view"
)

// listPatience is how long the kernel may take to list its interfaces at the start.
const listPatience = 10 * time.Second

// Datapath is the part of loader.Datapath that Interfaces uses.
type Datapath interface {
	Attach(name string) (*loader.Hook, error)
	Detach(index int) error
	AttachXDP(name string, mode loader.XDPMode) (loader.XDPMode, error)
	DetachXDP(index int) error
	XDPModes() map[int]loader.XDPMode
	SetUplinks(indices []int) error
	ForgetInterface(index int, idle time.Duration) (loader.SweepResult, error)
	Hooks() []loader.Hook
}

// Watcher is the part of ifaces.Watcher that Interfaces uses.
type Watcher interface {
	Events() <-chan ifaces.Event
	Status() ifaces.Status
}

// Interfaces attaches the programs to the interfaces that are chosen and detaches them from those that are not. Its methods
// may be called from any goroutine.
type Interfaces struct {
	dp  Datapath
	log *slog.Logger
	xdp loader.XDPMode // on uplinks; empty: never

	mu      sync.Mutex // protects the fields below; held while programs are attached
	watcher Watcher    // nil before Sync
	picks   map[int]ifaces.Pick
	pending map[int]ifaces.Pick // interfaces to which attaching failed
	uplinks map[int]bool        // as set in the datapath
	useXDP  bool                // a policy can use XDP
	noXDP   map[int]bool        // interfaces to which XDP cannot be attached
	gone    []int               // interfaces that were removed since the last ForgetGone
}

// New returns Interfaces without interfaces. An empty mode means that XDP is never attached.
func New(dp Datapath, log *slog.Logger, xdp loader.XDPMode) *Interfaces {
	return &Interfaces{
		dp: dp, log: log, xdp: xdp,
		picks: map[int]ifaces.Pick{}, pending: map[int]ifaces.Pick{}, uplinks: map[int]bool{}, noXDP: map[int]bool{},
	}
}

// Missing returns an error that names the interfaces of a specification that do not exist. A glob may match later.
func Missing(unmatched []string) error {
	var missing []string
	for _, name := range unmatched {
		if !strings.ContainsAny(name, "*?[") && name != ifaces.Auto {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("no such interface: %s (a glob such as '%s*' waits for one to appear)", strings.Join(missing, ", "), missing[0])
}

// Sync attaches to the interfaces that exist, and returns an error when a named one does not, or attaching fails. Later
// events of the watcher are for Apply.
func (i *Interfaces) Sync(w Watcher) error { return i.sync(w, listPatience) }

func (i *Interfaces) sync(w Watcher, patience time.Duration) error {
	i.mu.Lock()
	i.watcher = w
	i.mu.Unlock()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for synced := false; !synced; {
		select {
		case e, ok := <-w.Events():
			if !ok {
				return errors.New("the watcher of interfaces ended before it listed them")
			}
			synced = e.Op == ifaces.Synced
			i.Apply(e)
		case <-timeout.C:
			return fmt.Errorf("the kernel did not list its interfaces in %s", patience)
		}
	}
	errs := []error{Missing(w.Status().Unmatched)}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.pending {
		if _, err := i.dp.Attach(p.Link.Name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Apply attaches, detaches or renames according to an event of the watcher.
func (i *Interfaces) Apply(e ifaces.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	index := e.Pick.Link.Index
	switch e.Op {
	case ifaces.Synced:
		return
	case ifaces.Removed:
		delete(i.pending, index)
		delete(i.picks, index)
		i.detach(e.Pick, errors.Join(i.dp.Detach(index), i.dp.DetachXDP(index)))
		i.gone = append(i.gone, index)
		i.log.Info("interface is gone", "interface", e.Pick.Link.Name)
	default:
		i.picks[index] = e.Pick
		if e.Pick.Attach {
			i.attach(e.Pick)
		} else {
			delete(i.pending, index)
			i.detach(e.Pick, i.dp.Detach(index))
		}
	}
	i.setUplinks()
	i.setXDP()
}

func (i *Interfaces) detach(p ifaces.Pick, err error) {
	if err != nil {
		i.log.Warn("cannot detach from the interface", "interface", p.Link.Name, "error", err)
	}
}

func (i *Interfaces) attach(p ifaces.Pick) {
	h, err := i.dp.Attach(p.Link.Name)
	if err == nil && h.Index != p.Link.Index {
		err = i.undo(h, p)
	}
	if err != nil {
		if _, again := i.pending[p.Link.Index]; !again {
			i.log.Error("cannot attach to the interface, trying again", "interface", p.Link.Name, "error", err)
		}
		i.pending[p.Link.Index] = p
		return
	}
	delete(i.pending, p.Link.Index)
	i.log.Info("attached to the interface", "interface", h.Name, "mode", h.Mode, "uplink", p.Uplink, "because", p.Reason)
}

// undo detaches from an interface that has taken the name of the chosen one since: its own events decide whether it is
// attached to. It returns the error of the chosen one.
func (i *Interfaces) undo(h *loader.Hook, p ifaces.Pick) error {
	err := fmt.Errorf("interface %s: no such device with index %d", p.Link.Name, p.Link.Index)
	if i.picks[h.Index].Attach {
		return err
	}
	return errors.Join(err, i.dp.Detach(h.Index))
}

// Retry attaches to the interfaces to which attaching failed before.
func (i *Interfaces) Retry() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.pending {
		i.attach(p)
	}
}

func (i *Interfaces) setUplinks() {
	want := map[int]bool{}
	for index, p := range i.picks {
		if p.Uplink {
			want[index] = true
		}
	}
	if maps.Equal(want, i.uplinks) {
		return
	}
	if err := i.dp.SetUplinks(slices.Collect(maps.Keys(want))); err != nil {
		i.log.Error("cannot write the uplinks to the map", "error", err)
		return
	}
	i.uplinks = want
}

// ForgetGone ends the connections of interfaces that were removed since the last call. idle is as for
// loader.Datapath.ForgetInterface.
func (i *Interfaces) ForgetGone(idle time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, index := range i.gone {
		if _, back := i.picks[index]; back {
			continue // the same index again
		}
		if _, err := i.dp.ForgetInterface(index, idle); err != nil {
			i.log.Error("cannot end the connections of an interface that is gone", "interface", index, "error", err)
		}
	}
	i.gone = i.gone[:0]
}

// Answers reports whether the programs answer packets that leave by the interface of that index.
func (i *Interfaces) Answers(index int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, waits := i.pending[index]
	return i.picks[index].Attach && !waits
}

// Names returns the names of the interfaces that the programs are attached to, sorted.
func (i *Interfaces) Names() []string {
	names := []string{}
	for _, h := range i.dp.Hooks() {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return names
}

// View joins the decision on each interface with the programs attached to it.
func (i *Interfaces) View() []view.Interface {
	i.mu.Lock()
	w, pending := i.watcher, maps.Clone(i.pending)
	i.mu.Unlock()
	if w == nil {
		return []view.Interface{}
	}
	attached := map[int]loader.Hook{}
	for _, h := range i.dp.Hooks() {
		attached[h.Index] = h
	}
	picks := w.Status().Picks
	all := make([]view.Interface, 0, len(picks))
	for _, p := range picks {
		h, ok := attached[p.Link.Index]
		_, waits := pending[p.Link.Index]
		all = append(all, view.Interface{Pick: p, Attached: ok, Mode: h.Mode, Pending: waits})
	}
	return all
}
