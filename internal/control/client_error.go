package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors that a client may need to distinguish.
var (
	ErrNoAgent      = errors.New("no agent answers")    // no process listens on the socket
	ErrNoAnswer     = errors.New("no answer in time")   // a process listens, and does not answer within CallTimeout
	ErrNotPermitted = errors.New("not permitted")       // the user may not use the socket
	ErrUnknown      = errors.New("nothing of the name") // no such policy or backend
)

// unreachable returns the reason why the agent could not be reached, and the remedy. The context is the call's.
func (c *Client) unreachable(ctx context.Context, what string, err error) error {
	switch {
	case context.Cause(ctx) == errLate:
		return c.noAnswer(what)
	case errors.Is(err, syscall.EAGAIN):
		return &textError{fmt.Sprintf("%s: the agent at %s accepts no connection, its queue is full: its process is stopped, overloaded or hangs; "+
			"see its state and its log, and restart the agent if that goes on", what, c.socket), ErrNoAnswer}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &textError{fmt.Sprintf("no agent answers at %s: is it running? If it listens elsewhere, say so with --control-socket", c.socket), ErrNoAgent}
	case errors.Is(err, fs.ErrPermission):
		return &textError{fmt.Sprintf("not permitted to speak to the agent at %s: %s", c.socket, whoMay(c.socket)), ErrNotPermitted}
	}
	return fmt.Errorf("%s: speak to the agent at %s: %w", what, c.socket, err)
}

// whoMay describes the users who may use a socket.
func whoMay(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "its directory is for root; try sudo"
	}
	if st.Mode&0o060 != 0o060 {
		return "it is for root; try sudo, or let the agent admit a group with --control-group"
	}
	name := strconv.Itoa(int(st.Gid))
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	me := "you"
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		me = u.Username
	}
	return fmt.Sprintf("it is for root and the members of group %s, and %s is none", name, me)
}

// textError is an error whose text replaces that of the wrapped one.
type textError struct {
	text string
	is   error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.is }
