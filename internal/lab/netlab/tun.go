package netlab

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Tun connects two namespaces by a pair of TUN devices, whose packets this process carries from one to the other: links
// without a MAC header. With offload they take packets that are to be segmented and summed up later. The process carries
// packets until the lab is closed.
func (l *Lab) Tun(a, b End, offload bool) error {
	near, err := openTun(a, offload)
	if err != nil {
		return err
	}
	l.open = append(l.open, near)
	far, err := openTun(b, offload)
	if err != nil {
		return err
	}
	l.open = append(l.open, far)
	l.carrying.Go(func() { carry(near, far) })
	l.carrying.Go(func() { carry(far, near) })
	return errors.Join(a.In.ready(a.Interface, a.Addresses), b.In.ready(b.Interface, b.Addresses))
}

// carry copies packets until one of the devices is closed. What the other does not take is lost, as on any link.
func carry(from, to io.ReadWriter) {
	packet := make([]byte, 1<<16+vnetHeader)
	for {
		n, err := from.Read(packet)
		if err != nil {
			return
		}
		_, _ = to.Write(packet[:n])
	}
}

// vnetHeader is the length of what comes before a packet that is to be segmented later.
const vnetHeader = 10

// Offloads of a TUN device (TUN_F_*): checksums, and segmentation of TCP over IPv4 and IPv6.
const tunOffloads = 0x01 | 0x02 | 0x04

func openTun(e End, offload bool) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, fmt.Errorf("make tun %s in %s: %w", e.Interface, e.In.name, err)
	}
	ifr, err := unix.NewIfreq(e.Interface)
	if err != nil {
		return fail(err)
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if offload {
		flags |= unix.IFF_VNET_HDR
	}
	ifr.SetUint16(flags)
	var fd int
	err = e.In.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		if err == nil && offload {
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads)
		}
		if err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	return os.NewFile(uintptr(fd), "tun "+e.Interface), nil
}
