package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// CallTimeout is the time limit of a call that does not follow, and of the first answer of one that follows.
const CallTimeout = 5 * time.Second

// errLate is the cause of a context that ended because the agent did not answer in time.
var errLate = errors.New("the agent did not answer in time")

// deadline is the deadline of a call.
type deadline struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// withDeadline returns a context that ends with errLate after a time, unless the deadline is lifted before. End releases both.
func withDeadline(ctx context.Context, after time.Duration) (context.Context, *deadline) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &deadline{time.AfterFunc(after, func() { cancel(errLate) }), cancel}
}

// lift removes the deadline.
func (d *deadline) lift() { d.timer.Stop() }

func (d *deadline) end() {
	d.timer.Stop()
	d.cancel(nil)
}

// note stores the number of the process at the other end of a connection. It is the same for all connections of a client,
// unless the agent is restarted: then the last one counts.
func (c *Client) note(conn net.Conn) {
	if peer := peerOf(conn); peer.known {
		c.listener.Store(peer.pid)
	}
}

// noAnswer returns the error of a call that the agent did not answer in time.
func (c *Client) noAnswer(what string) error {
	pid := c.listener.Load()
	text := fmt.Sprintf("%s: the agent at %s did not answer within %s: ", what, c.socket, c.timeout)
	switch {
	case pid > 0 && isStopped(pid):
		text += fmt.Sprintf("its process %d is stopped; resume it with kill -CONT %d, or restart the agent", pid, pid)
	case pid > 0:
		text += fmt.Sprintf("its process %d is overloaded or hangs; see its log, and restart the agent if that goes on", pid)
	default:
		text += "its process is stopped, overloaded or hangs; see its state and its log, and restart the agent if that goes on"
	}
	return &textError{text, ErrNoAnswer}
}

// isStopped reports whether a process is stopped by a signal or a debugger; false when that cannot be read.
func isStopped(pid int32) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The state follows the name, which is in parentheses and may contain any byte.
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return err == nil && (bytes.HasPrefix(after, []byte(" T ")) || bytes.HasPrefix(after, []byte(" t ")))
}
