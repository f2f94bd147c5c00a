// Package systemd tells the service manager how the agent is: ready, alive, ending.
// Where there is no service manager every call does nothing.
package systemd

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier speaks to the socket that the service manager named in the environment.
// It is used from one goroutine.
type Notifier struct {
	watchdog time.Duration // how often Alive must be heard; 0 when nobody listens
	last     time.Time     // when it was said last
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
// `systemctl status` shows. It may be called again when the line changes.
func (n *Notifier) Ready(status string) error {
	return notify(daemon.SdNotifyReady + "\nSTATUS=" + status)
}

// Stopping says that the agent is about to end.
func (n *Notifier) Stopping() error {
	return notify(daemon.SdNotifyStopping)
}

// Alive says that the event loop turns; the service manager restarts an agent that
// does not say so within the watchdog's period. It may be called as often as one
// likes: one message goes out for each third of the period.
func (n *Notifier) Alive(now time.Time) error {
	if n.watchdog == 0 || now.Sub(n.last) < n.watchdog/3 {
		return nil
	}
	n.last = now
	return notify(daemon.SdNotifyWatchdog)
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
