package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
)

// missingInterfaces complains of names; a glob may match later.
func missingInterfaces(unmatched []string) error {
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

// syncLinks attaches to what is there, and fails when a named interface is not.
func (a *Agent) syncLinks(w *ifaces.Watcher) error {
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-w.Events():
			if !ok {
				return errors.New("the kernel does not tell of its interfaces")
			}
			if e.Op != ifaces.Synced {
				a.onLink(e)
				continue
			}
		case <-timeout.C:
			return errors.New("the kernel did not list its interfaces in 10 s")
		}
		break
	}
	errs := []error{missingInterfaces(w.Status().Unmatched)}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pendingIfs {
		if _, err := a.dp.Attach(p.Link.Name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *Agent) onLink(e ifaces.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	index := e.Pick.Link.Index
	switch e.Op {
	case ifaces.Synced:
		return
	case ifaces.Removed:
		delete(a.pendingIfs, index)
		delete(a.picks, index)
		if err := errors.Join(a.dp.Detach(index), a.dp.DetachXDP(index)); err != nil {
			a.log.Warn("detach", "interface", e.Pick.Link.Name, "error", err)
		}
		a.gone = append(a.gone, index)
		a.log.Info("interface left", "interface", e.Pick.Link.Name)
	default:
		a.picks[index] = e.Pick
		if e.Pick.Attach {
			a.attach(e.Pick)
		} else if err := a.dp.Detach(index); err != nil {
			a.log.Warn("detach", "interface", e.Pick.Link.Name, "error", err)
		}
	}
	a.setUplinks()
	a.setXDP()
	a.nextLook = 0 // a link brings addresses, or takes some away
}

func (a *Agent) attach(p ifaces.Pick) {
	h, err := a.dp.Attach(p.Link.Name)
	if err != nil {
		if _, again := a.pendingIfs[p.Link.Index]; !again {
			a.log.Error("not enforced on interface, trying again", "interface", p.Link.Name, "error", err)
		}
		a.pendingIfs[p.Link.Index] = p
		return
	}
	delete(a.pendingIfs, p.Link.Index)
	a.log.Info("attached", "interface", h.Name, "mode", h.Mode, "uplink", p.Uplink, "because", p.Reason)
}

func (a *Agent) retryLinks() {
	for _, p := range a.pendingIfs {
		a.attach(p)
	}
}

func (a *Agent) setUplinks() {
	want := map[int]bool{}
	for index, p := range a.picks {
		if p.Uplink {
			want[index] = true
		}
	}
	if maps.Equal(want, a.uplinks) {
		return
	}
	if err := a.dp.SetUplinks(slices.Collect(maps.Keys(want))); err != nil {
		a.log.Error("uplinks", "error", err)
		return
	}
	a.uplinks = want
}

// setXDP attaches XDP to the uplinks while some policy can use it. By itself it leaves veths alone: native XDP takes
// segmentation offload away from them.
func (a *Agent) setXDP() {
	if a.cfg.XDP == "" {
		return
	}
	useful := false
	for _, p := range a.policies {
		useful = useful || p.Direction == policy.Inbound && p.Reject.With != policy.Respond
	}
	for index, p := range a.picks {
		if !useful || !p.Uplink || !p.Attach || !p.Link.HasMAC() || a.cfg.XDP == loader.XDPAuto && p.Link.Kind == "veth" {
			if err := a.dp.DetachXDP(index); err != nil {
				a.log.Warn("detach XDP", "interface", p.Link.Name, "error", err)
			}
			continue
		}
		if _, attached := a.dp.XDPModes()[index]; attached || a.noXDP[index] {
			continue
		}
		used, err := a.dp.AttachXDP(p.Link.Name, a.cfg.XDP)
		if err != nil {
			a.noXDP[index] = true
			a.log.Warn("no XDP here: new connections are rejected by TC, a little later", "interface", p.Link.Name, "error", err)
			continue
		}
		a.log.Info("attached XDP", "interface", p.Link.Name, "mode", used)
	}
}

// watchEntries looks every other second where clients can be rejected as they enter, and whether answers still can come in
// through lo. It takes its time, and so no lock.
func (a *Agent) watchEntries(now int64) {
	if now < a.nextEntry {
		return
	}
	a.nextEntry = now + int64(2*time.Second)
	a.dp.KeepNAT()
	err := a.dp.RejectAtEntry(a.cfg.AtEntry)
	if said := fmt.Sprint(err); err != nil && said != a.entryTrouble {
		a.log.Warn("some clients are rejected only where they leave the node", "error", err)
		a.entryTrouble = said
	}
}

// attachEarly attaches what is not bound to an interface.
func (a *Agent) attachEarly() error {
	if a.cfg.Connect != "" {
		if err := a.dp.AttachConnect(a.cfg.Connect); err != nil {
			return err
		}
	}
	if a.cfg.Lookup {
		return a.dp.AttachLookup()
	}
	return nil
}
