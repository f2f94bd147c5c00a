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

// RejectAtEntry makes the programs reject clients where they enter the node, if the rejection is certain: by an open or
// forced-open circuit of a policy without exempt addresses, at the backend's own address. Otherwise, and with on false, the
// programs reject them where they leave the node. Interfaces with programs of others are excluded: those would not see the
// rejected packets, and might drop the answers. Such programs may be attached or detached at any time, so the method must
// be called repeatedly, by one goroutine at a time. It takes some 100 us for each interface, and does not block other
// methods meanwhile.
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

// alone reports whether an interface has our programs for Ethernet, and no others.
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
