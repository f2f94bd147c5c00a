// Package systemd tells the service manager how the agent is: ready, alive, ending.
// Where there is no service manager every call does nothing. No call waits for it.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier speaks to the socket that the service manager named in the environment.
// It is used from one goroutine.
type Notifier struct {
	watchdog time.Duration // how often Alive must be heard; 0 when nobody listens
	last     time.Time     // when it was said last
	unsent   string        // a message that the manager's queue had no room for
}

// NewNotifier reads the environment. An error says that it names a watchdog whose
// period makes no sense.
func NewNotifier() (*Notifier, error) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog of the service manager: %w", err)
	}
	return &Notifier{watchdog: period}, nil
}

// Ready says that the agent does its work from now on, with a line that
// `systemctl status` shows. It may be called again when the line changes. If the
// manager's queue is full the next call of Alive says it.
func (n *Notifier) Ready(status string) error {
	n.unsent = daemon.SdNotifyReady + "\nSTATUS=" + status
	return n.flush()
}

// Stopping says that the agent is about to end.
func (n *Notifier) Stopping() error {
	err := notify(daemon.SdNotifyStopping)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// Alive says that the event loop turns; the service manager restarts an agent that
// does not say so within the watchdog's period. It may be called as often as one
// likes: one message goes out for each third of the period.
func (n *Notifier) Alive(now time.Time) error {
	if err := n.flush(); err != nil {
		return err
	}
	if n.watchdog == 0 || now.Sub(n.last) < n.watchdog/3 {
		return nil
	}
	err := notify(daemon.SdNotifyWatchdog)
	if errors.Is(err, unix.EAGAIN) {
		return nil // again at the next call
	}
	n.last = now
	return err
}

func (n *Notifier) flush() error {
	if n.unsent == "" {
		return nil
	}
	err := notify(n.unsent)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	n.unsent = ""
	return err
}

// notify sends a datagram to the manager's socket. A full queue is EAGAIN: a manager
// that does not read must not stop the agent.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Sendto(s, []byte(state), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: path})
		_ = unix.Close(s)
	}
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
