package e2e

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtool switches an offload of an interface (ETHTOOL_S*) in the namespace of the calling thread.
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
		return fmt.Errorf("ethtool command %#x on %s: %w", command, iface, errno)
	}
	return nil
}
