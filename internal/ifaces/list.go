package ifaces

import (
	"errors"
	"fmt"

	"github.com/cbagent/cbagent/internal/rtnetlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// List returns the links of a network namespace in the order of their index. netns.None() is the namespace of the
// calling thread.
func List(ns netns.NsHandle) ([]Link, error) {
	handle, err := rtnetlink.OpenHandle(ns)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	var t table
	if err := t.load(handle); err != nil {
		return nil, err
	}
	return t.list(), nil
}

// dumps is how often a dump is tried again that changes have interrupted. The last one is used as it is: notifications
// report the changes that it misses.
const dumps = 5

func listLinks(handle *netlink.Handle) ([]Link, error) {
	var found []netlink.Link
	var err error
	for range dumps {
		if found, err = handle.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, len(found))
	for i, l := range found {
		links[i] = fromNetlink(l)
	}
	return links, nil
}

// listDefaultRoutes returns the indices of the links of the unicast default routes of all tables.
func listDefaultRoutes(handle *netlink.Handle) (map[int]bool, error) {
	through := make(map[int]bool)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Type: unix.RTN_UNICAST} // no table and no destination: any table, and 0/0
		mask := netlink.RT_FILTER_TABLE | netlink.RT_FILTER_TYPE | netlink.RT_FILTER_DST
		var err error
		for range dumps {
			err = handle.RouteListFilteredIter(family, filter, mask, func(r netlink.Route) bool {
				if r.LinkIndex > 0 {
					through[r.LinkIndex] = true
				}
				for _, hop := range r.MultiPath {
					through[hop.LinkIndex] = true
				}
				return true
			})
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list default routes: %w", err)
		}
	}
	return through, nil
}

func fromNetlink(l netlink.Link) Link {
	a := l.Attrs()
	link := Link{
		Index: a.Index, Name: a.Name, Kind: l.Type(), Encap: a.EncapType, MAC: a.HardwareAddr.String(),
		Up: a.RawFlags&unix.IFF_UP != 0, Master: a.MasterIndex, Parent: a.ParentIndex, Away: a.NetNsID >= 0,
	}
	if tun, ok := l.(*netlink.Tuntap); ok {
		link.Kind, link.TAP = "tun", tun.Mode == netlink.TUNTAP_MODE_TAP
	}
	return link
}
