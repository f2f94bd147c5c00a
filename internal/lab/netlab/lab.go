package netlab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// upWithin is how long an interface may take to carry packets. The kernel batches such changes, up to a second apart.
const upWithin = 5 * time.Second

// Lab owns a set of namespaces. The zero value is an empty lab.
type Lab struct {
	namespaces []*Namespace
	open       []io.Closer    // devices that carry packets as long as they are open
	carrying   sync.WaitGroup // goroutines that end with it
}

// Namespace adds a namespace. The name is for messages only.
func (l *Lab) Namespace(name string) (*Namespace, error) {
	n, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	l.namespaces = append(l.namespaces, n)
	return n, nil
}

// End is one end of a veth pair: an interface of a namespace and its addresses, which may be none.
type End struct {
	In        *Namespace
	Interface string // at most 15 bytes
	Addresses []netip.Prefix
}

// Veth connects two namespaces and returns when packets can pass. Each end knows the other's addresses as permanent
// neighbours, so that no ARP or neighbour discovery is needed, or seen.
func (l *Lab) Veth(a, b End) error {
	if err := l.plug(a, b); err != nil {
		return err
	}
	return errors.Join(a.introduce(b), b.introduce(a))
}

// plug makes a veth pair and returns when both ends carry packets.
func (l *Lab) plug(a, b End) error {
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Interface, TxQLen: 1000},
		PeerName:      b.Interface,
		PeerNamespace: netlink.NsFd(b.In.handle),
	}
	if err := a.In.links.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth %s in %s to %s in %s: %w", a.Interface, a.In.name, b.Interface, b.In.name, err)
	}
	for _, e := range []End{a, b} {
		if err := e.In.Up(e.Interface); err != nil {
			return err
		}
		for _, addr := range e.Addresses {
			if err := e.In.Address(e.Interface, addr); err != nil {
				return err
			}
		}
	}
	return errors.Join(a.In.awaitUp(a.Interface, upWithin), b.In.awaitUp(b.Interface, upWithin))
}

// introduce makes the addresses of peer permanent neighbours of e.
func (e End) introduce(peer End) error {
	here, err := e.In.links.LinkByName(e.Interface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", e.Interface, e.In.name, err)
	}
	there, err := peer.In.links.LinkByName(peer.Interface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", peer.Interface, peer.In.name, err)
	}
	for _, addr := range peer.Addresses {
		err := e.In.links.NeighSet(&netlink.Neigh{
			LinkIndex:    here.Attrs().Index,
			State:        netlink.NUD_PERMANENT,
			IP:           addr.Addr().AsSlice(),
			HardwareAddr: there.Attrs().HardwareAddr,
		})
		if err != nil {
			return fmt.Errorf("make %s a neighbour of %s in %s: %w", addr.Addr(), e.Interface, e.In.name, err)
		}
	}
	return nil
}

// Bridge makes a bridge with the named interfaces of the namespace as its ports, and gives it addresses.
func (l *Lab) Bridge(in *Namespace, name string, ports []string, addresses []netip.Prefix) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := in.links.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s in %s: %w", name, in.name, err)
	}
	for _, port := range ports {
		link, err := in.links.LinkByName(port)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", port, in.name, err)
		}
		if err := in.links.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("make %s a port of %s in %s: %w", port, name, in.name, err)
		}
	}
	return in.ready(name, addresses)
}

// Close closes all namespaces; the kernel frees each as soon as no process and no socket is left in it. Nothing may use the
// lab at the same time. A second call does nothing.
func (l *Lab) Close() error {
	var errs []error
	for _, c := range l.open {
		errs = append(errs, c.Close())
	}
	l.open = nil
	l.carrying.Wait()
	for _, n := range slices.Backward(l.namespaces) {
		errs = append(errs, n.close())
	}
	l.namespaces = nil
	return errors.Join(errs...)
}

// ipNet converts a prefix for netlink, keeping the host's bits.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
