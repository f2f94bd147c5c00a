package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is one network namespace, with its loopback interface up. Its methods may be called from any goroutine
// until it is closed.
type Namespace struct {
	name   string
	handle netns.NsHandle
	links  *netlink.Handle
}

// newNamespace makes a namespace.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{name: name, handle: netns.None()}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace %s: %w", name, err)
		}
		var err error
		if n.handle, err = netns.Get(); err != nil {
			return fmt.Errorf("open network namespace %s: %w", name, err)
		}
		return nil
	})
	if err == nil {
		err = n.prepare()
	}
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// onOwnThread runs fn, which may leave its thread in another namespace, and brings the thread back.
//
// If the thread cannot return to where it was, the error says so and the thread stays locked, so that it ends with the
// goroutine. It must not end otherwise: a thread that dies takes the processes along that were started on it (Start).
func onOwnThread(fn func() error) (err error) {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the current network namespace: %w", err)
	}
	defer func() {
		back := netns.Set(origin)
		_ = origin.Close() // only read
		if back != nil {
			err = errors.Join(err, fmt.Errorf("return to the network namespace from before: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// prepare opens the netlink socket and brings up lo.
func (n *Namespace) prepare() error {
	var err error
	if n.links, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink in %s: %w", n.name, err)
	}
	lo, err := n.links.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in %s: %w", n.name, err)
	}
	if err := n.links.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo in %s: %w", n.name, err)
	}
	// Without duplicate address detection an IPv6 address can be used at once.
	return n.Sysctl("net.ipv6.conf.default.accept_dad", "0")
}

// Name returns the name it was made with, which exists only in messages.
func (n *Namespace) Name() string { return n.name }

// Links returns the rtnetlink handle of the namespace, for what this package has no method for.
func (n *Namespace) Links() *netlink.Handle { return n.links }

// Do runs fn on a thread that is in the namespace. Sockets and processes that fn makes belong to it for ever;
// goroutines that fn starts do not run in it. Calls may be nested.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.name, err)
		}
		return fn()
	})
}

// Sysctl writes a setting such as "net.ipv4.ip_forward" in the namespace.
func (n *Namespace) Sysctl(key, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	return n.Do(func() error {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s=%s in %s: %w", key, value, n.name, err)
		}
		return nil
	})
}

// Route sends packets for dst to the gateway via. A dst of 0.0.0.0/0 or ::/0 is the default route.
func (n *Namespace) Route(dst netip.Prefix, via netip.Addr) error {
	err := n.links.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("route %s via %s in %s: %w", dst, via, n.name, err)
	}
	return nil
}

// Address adds an address to an interface; it can be used at once (no duplicate address detection).
func (n *Namespace) Address(iface string, addr netip.Prefix) error {
	link, err := n.links.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", iface, n.name, err)
	}
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := n.links.AddrAdd(link, a); err != nil {
		return fmt.Errorf("add %s to %s in %s: %w", addr, iface, n.name, err)
	}
	return nil
}

// Up brings an interface up.
func (n *Namespace) Up(iface string) error {
	link, err := n.links.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", iface, n.name, err)
	}
	if err := n.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s in %s: %w", iface, n.name, err)
	}
	return nil
}

// awaitUp waits until an interface that is up carries packets: the kernel activates its queue a moment later.
func (n *Namespace) awaitUp(iface string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		link, err := n.links.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", iface, n.name, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp || (state == netlink.OperUnknown && !reportsState(link.Type())) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s in %s is still %s after %s", iface, n.name, state, limit)
		}
		time.Sleep(time.Millisecond)
	}
}

// reportsState reports whether devices of the kind have an operational state. Others carry packets as soon as they are up.
func reportsState(kind string) bool { return kind == "veth" || kind == "bridge" || kind == "vlan" }

// close closes the namespace; the kernel frees it when nothing else uses it. A second call does nothing.
func (n *Namespace) close() error {
	if n.links != nil {
		n.links.Close()
		n.links = nil
	}
	if !n.handle.IsOpen() {
		return nil
	}
	if err := n.handle.Close(); err != nil {
		return fmt.Errorf("close network namespace %s: %w", n.name, err)
	}
	return nil
}
