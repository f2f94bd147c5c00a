package control

import (
	"context"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

type clientKey struct{}

// client is the user at the other end of the socket, as reported by the kernel.
type client struct {
	uid   uint32
	pid   int32
	known bool
}

func clientOf(ctx context.Context) client {
	c, _ := ctx.Value(clientKey{}).(client)
	return c
}

func peerOf(c net.Conn) client {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return client{}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return client{}
	}
	var peer client
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = client{uid: cred.Uid, pid: cred.Pid, known: true}
		}
	})
	if err != nil {
		return client{}
	}
	return peer
}

// String returns the name of the user, or the number if there is none.
func (c client) String() string {
	if !c.known {
		return "unknown"
	}
	id := strconv.Itoa(int(c.uid))
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// onBehalf adds the user on whose behalf root sends the request, if root names one.
func (c client) onBehalf(of string) string {
	if of == "" || of == c.String() || len(of) > 64 {
		return c.String()
	}
	return fmt.Sprintf("%s (as %s)", of, c)
}

// monotonic returns the clock of traces in ns.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return ts.Nano()
}
