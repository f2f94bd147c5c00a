package wire

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// socket makes a TCP socket that gives up reading and writing after patience.
func socket(patience time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(patience))
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &tv); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("limit the patience of a socket: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("switch off Nagle's algorithm: %w", err)
	}
	return fd, nil
}

// connect connects. A signal, of which the Go runtime sends itself many, does not end connecting: it goes on without us.
func connect(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, address(to))
	for err == unix.EINTR {
		n, e := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 2000)
		if err = e; err != nil {
			continue
		}
		if n == 0 {
			return unix.ETIMEDOUT
		}
		failed, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if e != nil {
			return e
		}
		if failed != 0 {
			return unix.Errno(failed)
		}
	}
	return err
}

func address(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
