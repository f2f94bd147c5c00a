package loader

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// XDPMode is the way in which the XDP program is attached.
type XDPMode string

// Modes of XDP. Auto is native if the driver supports it, else generic.
const (
	XDPAuto    XDPMode = "auto"
	XDPNative  XDPMode = "native"
	XDPGeneric XDPMode = "generic"
)

// AttachXDP attaches the XDP program to an uplink of the calling thread's network namespace. It is not for the veths of
// pods: native XDP disables their segmentation offload.
func (d *Datapath) AttachXDP(name string, mode XDPMode) (used XDPMode, err error) {
	ifc, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.xdp[ifc.Index]; ok {
		return l.mode, nil
	}
	prog, err := d.program("xdp")
	if err != nil {
		return "", err
	}
	try := map[XDPMode][]XDPMode{XDPAuto: {XDPNative, XDPGeneric}, XDPNative: {XDPNative}, XDPGeneric: {XDPGeneric}}[mode]
	var errs []error
	for _, m := range try {
		flags := link.XDPDriverMode
		if m == XDPGeneric {
			flags = link.XDPGenericMode
		}
		l, err := d.attachOnce(fmt.Sprintf("%d-xdp-%s", ifc.Index, m), prog, func() (link.Link, error) {
			return link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifc.Index, Flags: flags})
		})
		if err == nil {
			d.xdp[ifc.Index] = xdpLink{l, m}
			return m, nil
		}
		errs = append(errs, fmt.Errorf("attach XDP to %s (%s): %w", name, m, err))
	}
	return "", errors.Join(errs...)
}

// attachOnce adopts the link that a former agent has pinned under the name, or creates one and pins it.
func (d *Datapath) attachOnce(name string, prog *ebpf.Program, attach func() (link.Link, error)) (link.Link, error) {
	if l := d.pins.adopt(name, prog); l != nil {
		return l, nil
	}
	l, err := attach()
	if err != nil {
		return nil, err
	}
	if err := d.pins.pin(name, l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// DetachXDP detaches the XDP program from an interface.
func (d *Datapath) DetachXDP(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.xdp[ifindex]
	if !ok {
		return nil
	}
	delete(d.xdp, ifindex)
	return d.pins.closeLink(l.Link, false)
}

// XDPModes returns how the XDP program is attached, by interface index.
func (d *Datapath) XDPModes() map[int]XDPMode {
	d.mu.Lock()
	defer d.mu.Unlock()
	modes := map[int]XDPMode{}
	for index, l := range d.xdp {
		modes[index] = l.mode
	}
	return modes
}

type xdpLink struct {
	link.Link
	mode XDPMode
}

// AttachConnect rejects connect() of the processes of a cgroup (v2) to backends whose policy says reset, with ECONNREFUSED,
// before there is a packet. The program sees the destination of connect(), so it works only if that is the backend's
// address.
func (d *Datapath) AttachConnect(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := CheckConnectCgroup(path); err != nil {
		return err
	}
	id, err := cgroup.ID(path)
	if err != nil {
		return err
	}
	for attach, name := range map[ebpf.AttachType]string{
		ebpf.AttachCGroupInet4Connect: "connect4", ebpf.AttachCGroupInet6Connect: "connect6",
	} {
		prog, err := d.program(name)
		if err != nil {
			return err
		}
		l, err := d.attachOnce(fmt.Sprintf("%d-%s", id, attach), prog, func() (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: path, Attach: attach, Program: prog})
		})
		if err != nil {
			return fmt.Errorf("attach to cgroup %s: %w", path, err)
		}
		d.others = append(d.others, l)
	}
	return nil
}

// CheckConnectCgroup returns nil when AttachConnect could attach to the cgroup.
func CheckConnectCgroup(path string) error {
	if err := cgroup.Check(path); err != nil {
		return fmt.Errorf("--connect-cgroup %s: %w: name a directory of cgroup v2, such as /sys/fs/cgroup or /sys/fs/cgroup/unified "+
			"(mount -t cgroup2 shows where it is)", path, err)
	}
	return nil
}

// AttachLookup rejects connections to listeners of this host in the calling thread's network namespace after NAT, where no
// TC hook sees the address of the backend. It can only reset, so it applies only to policies that reject with reset.
func (d *Datapath) AttachLookup() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	prog, err := d.program("lookup")
	if err != nil {
		return err
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer ns.Close()
	var id unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &id); err != nil {
		return fmt.Errorf("look at the network namespace: %w", err)
	}
	l, err := d.attachOnce(fmt.Sprintf("%d-lookup", id.Ino), prog, func() (link.Link, error) {
		return link.AttachNetNs(int(ns.Fd()), prog)
	})
	if err != nil {
		return fmt.Errorf("attach to socket look-ups of the network namespace: %w", err)
	}
	d.others = append(d.others, l)
	return nil
}
