package netlab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Device adds an interface of any kind to a namespace, brings it up and gives it addresses. An error of the kernel that
// it knows no such kind matches unix.EOPNOTSUPP.
func (l *Lab) Device(in *Namespace, device netlink.Link, addresses ...netip.Prefix) error {
	name := device.Attrs().Name
	if err := in.links.LinkAdd(device); err != nil {
		return fmt.Errorf("make %s %s in %s: %w", device.Type(), name, in.name, err)
	}
	return in.ready(name, addresses)
}

// Take moves an interface from another namespace to this one, brings it up and gives it addresses.
func (n *Namespace) Take(from *Namespace, iface string, addresses ...netip.Prefix) error {
	link, err := from.links.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", iface, from.name, err)
	}
	if err := from.links.LinkSetNsFd(link, int(n.handle)); err != nil {
		return fmt.Errorf("move %s from %s to %s: %w", iface, from.name, n.name, err)
	}
	return n.ready(iface, addresses)
}

// ready brings an interface up, gives it addresses and returns when it carries packets.
func (n *Namespace) ready(iface string, addresses []netip.Prefix) error {
	if err := n.Up(iface); err != nil {
		return err
	}
	for _, addr := range addresses {
		if err := n.Address(iface, addr); err != nil {
			return err
		}
	}
	return n.awaitUp(iface, upWithin)
}

// MTU sets the largest packet that an interface sends, in bytes without the link header.
func (n *Namespace) MTU(iface string, bytes int) error {
	link, err := n.links.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", iface, n.name, err)
	}
	if err := n.links.LinkSetMTU(link, bytes); err != nil {
		return fmt.Errorf("set the MTU of %s in %s to %d: %w", iface, n.name, bytes, err)
	}
	return nil
}
