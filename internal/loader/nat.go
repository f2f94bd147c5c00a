package loader

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/tables"
)

// answerSettings make the kernel accept answers that the programs redirect to lo's ingress. Such a packet has no route yet,
// so the kernel checks its addresses like those of a packet from outside: it drops packets whose source is an address of
// this host (unless accept_local is set) or in 127.0.0.0/8 (unless route_localnet is set). The settings change nothing
// else. Packets between processes keep their route over lo and are not checked, and no other host can send to lo, so the
// settings are harmless if an agent is killed.
var answerSettings = []inetSetting{acceptLocal, routeLocalnet}

// natOnLo is the state that the programs need to follow connections that NAT changes before lo.
type natOnLo struct {
	on       bool
	ifindex  int
	conf     *inetConf               // nil: lo is not attached
	backends map[tables.Backend]bool // backends that are processes of this host
	changed  map[inetSetting]bool    // settings to be restored
	trouble  string                  // the last error, to log it once
}

// attachNAT starts to follow connections through NAT on lo. It runs in lo's network namespace.
func (d *Datapath) attachNAT(ifindex int) {
	conf, err := newInetConf()
	if err != nil {
		d.warnNAT(err)
		return
	}
	d.nat.ifindex, d.nat.conf, d.nat.changed = ifindex, conf, d.pins.marks()
	// Also if no backend needs it: a former agent may have left it on.
	d.applyNAT(len(d.nat.backends) > 0)
}

// detachNAT undoes attachNAT; with keep all stays as it is, for the next agent.
func (d *Datapath) detachNAT(keep bool) error {
	if d.nat.conf == nil {
		return nil
	}
	var err error
	if !keep {
		err = d.stopNAT()
	}
	d.nat.conf.close()
	d.nat.conf = nil
	return err
}

// PutBackend is Tables.PutBackend. It starts to follow connections through NAT on lo when the backend is the first on this
// host.
func (d *Datapath) PutBackend(b tables.Backend, circuit int, flags tables.BackendFlags) error {
	if err := d.Tables.PutBackend(b, circuit, flags); err != nil {
		return err
	}
	d.noteHostBackend(b, onThisHost(b, flags))
	return nil
}

// RemoveBackend is Tables.RemoveBackend. It stops following connections through NAT on lo when the backend was the last on
// this host.
func (d *Datapath) RemoveBackend(b tables.Backend) error {
	if err := d.Tables.RemoveBackend(b); err != nil {
		return err
	}
	d.noteHostBackend(b, false)
	return nil
}

func (d *Datapath) noteHostBackend(b tables.Backend, onHost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nat.note(b, onHost)
	if want := len(d.nat.backends) > 0; d.nat.conf != nil && want != d.nat.on {
		d.applyNAT(want)
	}
}

// note records whether a backend is a process of this host.
func (n *natOnLo) note(b tables.Backend, onHost bool) {
	b.Addr = netip.AddrPortFrom(b.Addr.Addr().Unmap(), b.Addr.Port())
	if onHost {
		n.backends[b] = true
	} else {
		delete(n.backends, b)
	}
}

// onThisHost reports whether clients of this host reach a backend over lo.
func onThisHost(b tables.Backend, flags tables.BackendFlags) bool {
	return b.Direction == tables.Outbound && (flags&tables.OnHost != 0 || b.Addr.Addr().Unmap().IsLoopback())
}

// KeepNAT sets settings of lo again that another process has reset, and tries again what failed. It logs errors.
func (d *Datapath) KeepNAT() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nat.conf != nil && len(d.nat.backends) > 0 {
		d.applyNAT(true)
	}
}

func (d *Datapath) applyNAT(on bool) {
	apply := d.stopNAT
	if on {
		apply = d.startNAT
	}
	if err := apply(); err != nil {
		d.warnNAT(err)
	}
}

func (d *Datapath) warnNAT(err error) {
	if said := err.Error(); said != d.nat.trouble {
		d.nat.trouble = said
		d.log.Warn("clients that reach a process of this host through NAT are not judged, and get no answer when rejected", "error", err)
	}
}

func (d *Datapath) startNAT() error {
	for _, s := range answerSettings {
		now, err := d.nat.conf.get(d.nat.ifindex, s)
		if err != nil {
			return err
		}
		if now != 0 {
			continue
		}
		// The mark comes first: after a crash between the two, restoring does nothing.
		if err := d.pins.mark(s); err != nil {
			return err
		}
		if err := d.nat.conf.set(d.nat.ifindex, s, 1); err != nil {
			return err
		}
		d.nat.changed[s] = true
		d.log.Info("setting changed, for answers through NAT", "interface", "lo", "setting", s.String(), "value", 1)
	}
	d.nat.on = true
	d.SetNATOnLo(true)
	return nil
}

// stopNAT restores the settings of lo, also those that a former agent with the same pins has changed.
func (d *Datapath) stopNAT() error {
	d.nat.on = false
	d.SetNATOnLo(false)
	var errs []error
	for s := range d.nat.changed {
		if err := d.nat.conf.set(d.nat.ifindex, s, 0); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(d.nat.changed, s)
		errs = append(errs, d.pins.unmark(s))
	}
	return errors.Join(errs...)
}

// restoreLo restores the settings of lo that an agent with these pins has changed, in the calling thread's network
// namespace. It returns a description of each change.
func (p *pins) restoreLo() (done []string, err error) {
	marks := p.marks()
	if len(marks) == 0 {
		return nil, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("interface lo: %w", err)
	}
	conf, err := newInetConf()
	if err != nil {
		return nil, err
	}
	defer conf.close()
	var errs []error
	for s := range marks {
		if err := conf.set(lo.Attrs().Index, s, 0); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, "change of lo's "+s.String())
	}
	return done, errors.Join(errs...)
}
