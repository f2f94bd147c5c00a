package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is the default path of the agent's socket, for the agent and its commands.
const DefaultSocket = "/run/cbagent/cbagent.sock"

// Errors of Listen that the operator can correct.
var (
	ErrInUse     = errors.New("another agent answers there")
	ErrElsewhere = errors.New("an agent of another network namespace answers there")
	ErrGroup     = errors.New("there is no such group")
)

// Listen opens the socket for root, and for a group if one is named. The socket has its owner and mode before its name
// exists. It replaces the socket of a dead agent. If a process answers on the socket, the error is ErrInUse, or
// ErrElsewhere if that process is known to be in another network namespace: then its agent is not in conflict, but has the
// path.
func Listen(path, group string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		defer func() { _ = c.Close() }()
		if elsewhere(peerOf(c).pid) {
			return nil, fmt.Errorf("control socket %s: %w: use another --control-socket", path, ErrElsewhere)
		}
		return nil, fmt.Errorf("control socket %s: %w: stop it, or use another --control-socket", path, ErrInUse)
	} else if errors.Is(err, syscall.EAGAIN) { // a process listens and does not accept: a stopped agent is not a dead one
		return nil, fmt.Errorf("control socket %s: %w, and its queue is full: stop it, or use another --control-socket", path, ErrInUse)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("control socket %s: there is something that is no socket; use another --control-socket", path)
	}
	gid := -1
	if group != "" {
		g, err := lookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("control socket %s: group %s: %w", path, group, err)
		}
		gid = g
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := bind(path, gid)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

// elsewhere reports whether a process is in another network namespace than this one; false when that is not known.
func elsewhere(pid int32) bool {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && theirs != own
}

// bind creates the socket under another name and renames it, so that under its name a process always listens.
func bind(path string, gid int) (net.Listener, error) {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// The socket gets its mode before bind gives it a name.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	any, err := config.Listen(context.Background(), "unix", temp)
	if err != nil {
		return nil, err
	}
	l := any.(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	if gid >= 0 {
		if err = os.Lchown(temp, -1, gid); err == nil {
			err = os.Chmod(temp, 0o660)
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return nil, errors.Join(err, l.Close())
	}
	return &listener{UnixListener: l, path: path, inode: inodeOf(path)}, nil
}

// listener removes its socket when it is closed, unless another agent has replaced it.
type listener struct {
	*net.UnixListener
	path  string
	inode uint64
}

func (l *listener) Close() error {
	if inodeOf(l.path) == l.inode {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

func inodeOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

func lookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		if id, e := strconv.Atoi(name); e == nil && id >= 0 {
			return id, nil
		}
		return 0, ErrGroup
	}
	return strconv.Atoi(g.Gid)
}
