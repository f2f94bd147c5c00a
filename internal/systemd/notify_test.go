package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a service manager that listens.
type manager struct{ *net.UnixConn }

func listen(t *testing.T, watchdog time.Duration) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", fmt.Sprint(watchdog.Microseconds()))
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	return manager{c}
}

// received returns the next message, or "" when none has been sent. A datagram can be read as soon as it is sent.
func (m manager) received(t *testing.T) string {
	t.Helper()
	if err := m.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 512)
	n, err := m.Read(buffer)
	if os.IsTimeout(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestNotifier(t *testing.T) {
	m := listen(t, 30*time.Second)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_000_000, 0)
	steps := []struct {
		name string
		do   func() error
		want string
	}{
		{"ready", func() error { return n.Ready("3 policies") }, "READY=1\nSTATUS=3 policies"},
		{"alive at first", func() error { return n.Alive(start) }, "WATCHDOG=1"},
		{"alive too soon", func() error { return n.Alive(start.Add(10*time.Second - 1)) }, ""},
		{"alive in time", func() error { return n.Alive(start.Add(10 * time.Second)) }, "WATCHDOG=1"},
		{"ending", n.Stopping, "STOPPING=1"},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := m.received(t); got != step.want {
			t.Errorf("%s: the manager received %q, want %q", step.name, got, step.want)
		}
	}
}

// A manager that does not read its messages gets READY as soon as it reads.
func TestManagerThatDoesNotRead(t *testing.T) {
	m := listen(t, 3*time.Second)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	now, sent := time.Unix(1_000_000, 0), 0
	for ; !errors.Is(notify("STATUS=fills the queue"), unix.EAGAIN); sent++ {
		if sent == 1<<20 {
			t.Fatal("the queue is never full")
		}
	}
	if err := errors.Join(n.Ready("late"), n.Alive(now), n.Stopping()); err != nil {
		t.Errorf("a full queue is an error: %v", err)
	}
	for range sent {
		if got := m.received(t); got != "STATUS=fills the queue" {
			t.Fatalf("the manager received %q", got)
		}
	}
	if err := n.Alive(now); err != nil {
		t.Fatal(err)
	}
	if got := m.received(t) + " " + m.received(t); got != "READY=1\nSTATUS=late WATCHDOG=1" {
		t.Errorf("the manager received %q", got)
	}
}

func TestWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { return n.Ready("") },
		func() error { return n.Alive(time.Unix(1, 0)) },
		n.Stopping,
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
}

func TestManagerIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(""); err == nil {
		t.Error("no manager listens, and Ready returns no error")
	}
}

func TestWatchdogPeriodThatMakesNoSense(t *testing.T) {
	listen(t, time.Second)
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := NewNotifier(); err == nil {
		t.Error("WATCHDOG_USEC=soon was taken")
	}
}
