package loader

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// RejectAtEntry lets clients be rejected where they enter the node when that is sure: by an open or forced-open circuit
// of a policy that exempts nobody by address, at the backend's own address. Else, and with on false, they are where they
// leave it. Interfaces that have programs of others are left out: those would not see the packets that are taken before
// them, and might drop an answer that they know nothing of. Others come and go, so it must be called again and again, by one
// goroutine at a time; it takes some 100 us for each interface, and keeps nobody else from the datapath meanwhile.
func (d *Datapath) RejectAtEntry(on bool) error {
	var alone []int
	var errs []error
	if on {
		own, err := programIDs(d.objs.Ingress, d.objs.Egress)
		if err != nil {
			return fmt.Errorf("reject clients at entry: %w", err)
		}
		for _, h := range d.Hooks() {
			ok, err := h.alone(own)
			if err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("look for programs of others on %s: %w", h.Name, err))
			}
			if ok {
				alone = append(alone, h.Index)
			}
		}
	}
	return errors.Join(append(errs, d.SetEntries(alone))...)
}

func programIDs(all ...*ebpf.Program) ([]ebpf.ProgramID, error) {
	var ids []ebpf.ProgramID
	for _, p := range all {
		info, err := p.Info()
		if err != nil {
			return nil, err
		}
		id, ok := info.ID()
		if !ok {
			return nil, errors.New("the kernel does not number its programs")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// alone reports whether an interface has our programs for Ethernet, and nobody else's.
func (h Hook) alone(own []ebpf.ProgramID) (bool, error) {
	if h.L3 {
		return false, nil
	}
	if haveTCX() {
		for _, where := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: h.Index, Attach: where})
			if err != nil {
				return false, err
			}
			for _, p := range found.Programs {
				if !slices.Contains(own, p.ID) {
					return false, nil
				}
			}
		}
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: h.Index}}, parent)
		if err != nil {
			return false, err
		}
		for _, f := range filters {
			if !ownFilter(f) {
				return false, nil
			}
		}
	}
	return true, nil
}

func ownFilter(f netlink.Filter) bool {
	b, ok := f.(*netlink.BpfFilter)
	return ok && b.Handle == filterHandle && strings.HasPrefix(b.Name, "cbagent-")
}
