// Package systemd notifies the service manager of the agent's state: ready, alive, stopping. Without a service manager each
// call does nothing. No call blocks.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier sends messages to the service manager's socket, which the environment names. It is used from one goroutine.
type Notifier struct {
	watchdog time.Duration // the period of the watchdog; 0: none
	last     time.Time     // when the last keep-alive was sent
	unsent   string        // a message for which the manager's queue had no room
}

// NewNotifier reads the environment. It returns an error if the period of the watchdog there is invalid.
func NewNotifier() (*Notifier, error) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog of the service manager: %w", err)
	}
	return &Notifier{watchdog: period}, nil
}

// Ready reports that the agent is ready, with a line that `systemctl status` shows. It may be called again when the line
// changes. If the manager's queue is full the next call of Alive sends it.
func (n *Notifier) Ready(status string) error {
	n.unsent = daemon.SdNotifyReady + "\nSTATUS=" + status
	return n.flush()
}

// Stopping reports that the agent stops.
func (n *Notifier) Stopping() error {
	err := notify(daemon.SdNotifyStopping)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// Alive reports that the event loop runs. The service manager restarts an agent that does not do so within the watchdog's
// period. It may be called at any rate: it sends one message for each third of the period.
func (n *Notifier) Alive(now time.Time) error {
	if err := n.flush(); err != nil {
		return err
	}
	if n.watchdog == 0 || now.Sub(n.last) < n.watchdog/3 {
		return nil
	}
	err := notify(daemon.SdNotifyWatchdog)
	if errors.Is(err, unix.EAGAIN) {
		return nil // the next call tries again
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
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
