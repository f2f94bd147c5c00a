package netlab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the features that let an interface carry something else than the final packets: segments longer than the
// MTU, and checksums that are computed later.
var offloads = []uint32{
	unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_SSG, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM,
}

// NoOffloads switches segmentation, receive and checksum offloads of an interface off: it sends packets as they are on a
// wire, no longer than the MTU and with their checksums.
func (n *Namespace) NoOffloads(iface string) error {
	for _, command := range offloads {
		if err := n.Offload(iface, command, false); err != nil {
			return err
		}
	}
	return nil
}

// Offload switches one offload of an interface. command is one of ETHTOOL_STSO, ETHTOOL_SGRO and the like, which take a
// single value.
func (n *Namespace) Offload(iface string, command uint32, on bool) error {
	if err := n.Do(func() error { return ethtool(iface, command, on) }); err != nil {
		return fmt.Errorf("set offload %#x of %s in %s to %v: %w", command, iface, n.name, on, err)
	}
	return nil
}

// ethtool sets a value of an interface in the namespace of the calling thread.
func ethtool(iface string, command uint32, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	value := struct{ command, data uint32 }{command: command}
	if on {
		value.data = 1
	}
	// struct ifreq: the name, then a pointer.
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], iface)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
