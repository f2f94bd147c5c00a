package control

import (
	"context"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

type callerKey struct{}

// caller is who is at the other end of the socket, as the kernel says.
type caller struct {
	uid   uint32
	pid   int32
	known bool
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

func peerOf(c net.Conn) caller {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return caller{}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return caller{}
	}
	var peer caller
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = caller{uid: cred.Uid, pid: cred.Pid, known: true}
		}
	})
	if err != nil {
		return caller{}
	}
	return peer
}

// String returns the name of the user, or the number.
func (c caller) String() string {
	if !c.known {
		return "unknown"
	}
	id := strconv.Itoa(int(c.uid))
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// onBehalf adds what root says of who sent it.
func (c caller) onBehalf(of string) string {
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
