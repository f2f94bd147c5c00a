package loader

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hook represents the programs on one interface.
type Hook struct {
	Name    string
	Index   int
	Mode    string // "tcx" or "clsact"
	L3      bool   // the device has no link header
	lo      bool   // the loopback device
	links   []link.Link
	filters []*netlink.BpfFilter
	qdisc   netlink.Qdisc // the clsact qdisc; removed unless it has filters of others
}

type attachment struct {
	prog   *ebpf.Program
	tcx    ebpf.AttachType
	parent uint32
	name   string
}

// Attach attaches the programs to an interface of the calling thread's network namespace, before all other programs there.
// It does not change an interface that has them. Without pins they are detached when this process ends, unless clsact is
// used: then they stay, and admit all clients after the lease has expired.
func (d *Datapath) Attach(name string) (*Hook, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	attrs := l.Attrs()
	if h, ok := d.hooks[attrs.Index]; ok {
		h.Name = name
		return h, nil
	}
	h := &Hook{Name: name, Index: attrs.Index, lo: attrs.Flags&net.FlagLoopback != 0, L3: attrs.EncapType != "ether" && attrs.EncapType != "loopback"}
	want, err := d.attachments(h)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", name, err)
	}
	if err := d.attach(h, want); err != nil {
		return nil, errors.Join(err, h.release(false))
	}
	d.hooks[h.Index] = h
	if h.lo {
		d.attachNAT(h.Index)
	}
	return h, nil
}

// attachments returns the programs for an interface and their hooks. d.mu is held.
func (d *Datapath) attachments(h *Hook) ([]attachment, error) {
	if h.lo {
		// Each packet of the loopback device passes both of its hooks: one hook is enough.
		lo, err := d.program("loopback")
		return []attachment{{lo, ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, "cbagent-loopback"}}, err
	}
	in, out := d.objs.Ingress, d.objs.Egress
	if h.L3 {
		var err error
		if in, err = d.program("ingress_l3"); err != nil {
			return nil, err
		}
		if out, err = d.program("egress_l3"); err != nil {
			return nil, err
		}
	}
	// The hook for responses comes first: a followed request must not have an unseen response.
	return []attachment{
		{in, ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, "cbagent-ingress"},
		{out, ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, "cbagent-egress"},
	}, nil
}

func (d *Datapath) attach(h *Hook, want []attachment) error {
	h.Mode = "tcx"
	if d.opts.Clsact || !haveTCX() {
		h.Mode = "clsact"
	}
	for _, a := range want {
		var err error
		if h.Mode == "tcx" {
			err = h.attachTCX(a, d.pins)
		} else {
			err = h.attachClsact(a)
		}
		if err != nil {
			return fmt.Errorf("attach %s to %s (%s): %w", a.name, h.Name, h.Mode, err)
		}
	}
	if h.Mode == "tcx" {
		// Filters of a former agent that used clsact would count each packet again.
		return removeFilters(h.Index)
	}
	return nil
}

func removeFilters(index int) error {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	_, err = detachClsact(l)
	return err
}

func (h *Hook) attachTCX(a attachment, p *pins) error {
	if l := p.adopt(linkName(h.Index, a), a.prog); l != nil {
		h.links = append(h.links, l)
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: h.Index, Program: a.prog, Attach: a.tcx, Anchor: link.Head()})
	if err != nil {
		return err
	}
	h.links = append(h.links, l)
	return p.pin(linkName(h.Index, a), l)
}

// filterHandle distinguishes our filters from others of the same qdisc and priority.
const filterHandle = 0xcb

// firstPriority returns the priority of our filter if there is one, else the first possible one. A priority is possible if
// it has no filters, or only filters of the same kind and protocol: the kernel allows no others there.
func firstPriority(ifindex int, parent uint32) (uint16, error) {
	filters, err := netlink.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, parent)
	if err != nil {
		return 0, fmt.Errorf("list filters: %w", err)
	}
	taken := map[uint16]bool{}
	for _, f := range filters {
		if ownFilter(f) {
			return f.Attrs().Priority, nil
		}
		if f.Type() != "bpf" || f.Attrs().Protocol != unix.ETH_P_ALL {
			taken[f.Attrs().Priority] = true
		}
	}
	var priority uint16 = 1
	for taken[priority] {
		priority++
	}
	return priority, nil
}

func (h *Hook) attachClsact(a attachment) error {
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: h.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
	switch err := netlink.QdiscAdd(qdisc); {
	case err == nil, errors.Is(err, unix.EEXIST):
		h.qdisc = qdisc
	default:
		return fmt.Errorf("add clsact qdisc: %w", err)
	}
	priority, err := firstPriority(h.Index, a.parent)
	if err != nil {
		return err
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: h.Index, Parent: a.parent, Handle: filterHandle, Protocol: unix.ETH_P_ALL, Priority: priority,
		},
		Fd: a.prog.FD(), Name: a.name, DirectAction: true,
	}
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("add filter: %w", err)
	}
	h.filters = append(h.filters, filter)
	return nil
}

// Detach detaches the programs from an interface. It returns no error if the interface is gone.
func (d *Datapath) Detach(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.hooks[ifindex]
	if !ok {
		return nil
	}
	delete(d.hooks, ifindex)
	return d.releaseHook(h, false)
}

// Hooks returns the interfaces with attached programs, in no order.
func (d *Datapath) Hooks() []Hook {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Hook, 0, len(d.hooks))
	for _, h := range d.hooks {
		all = append(all, Hook{Name: h.Name, Index: h.Index, Mode: h.Mode, L3: h.L3})
	}
	return all
}

// releaseHook releases a hook and the state of its interface.
func (d *Datapath) releaseHook(h *Hook, keep bool) error {
	var err error
	if h.lo {
		err = d.detachNAT(keep)
	}
	return errors.Join(h.release(keep), err)
}

// release closes the hook's links and filters; with keep the programs stay attached.
func (h *Hook) release(keep bool) error {
	var errs []error
	for _, l := range h.links {
		if !keep {
			errs = append(errs, l.Unpin())
		}
		errs = append(errs, l.Close())
	}
	if !keep {
		for _, f := range h.filters {
			if err := netlink.FilterDel(f); err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("remove filter from %s: %w", h.Name, err))
			}
		}
		if h.qdisc != nil {
			if err := removeIfEmpty(h.qdisc); err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("remove clsact qdisc from %s: %w", h.Name, err))
			}
		}
	}
	h.links, h.filters, h.qdisc = nil, nil, nil
	return errors.Join(errs...)
}

// removeIfEmpty removes a clsact qdisc unless it has filters of others.
func removeIfEmpty(q netlink.Qdisc) error {
	l, err := netlink.LinkByIndex(q.Attrs().LinkIndex)
	if err != nil {
		return err
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(l, parent)
		if err != nil || len(filters) > 0 {
			return err
		}
	}
	return netlink.QdiscDel(q)
}

func gone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.As(err, &notFound)
}
