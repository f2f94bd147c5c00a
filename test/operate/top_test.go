package operate

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// terminal is a pseudo-terminal and what was drawn on it.
type terminal struct {
	master, slave *os.File
	mu            sync.Mutex
	drawn         bytes.Buffer
}

func newTerminal(t *testing.T, columns, lines uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, slave: slave}
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.drawn.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

// shows reports whether a text was drawn since it was asked last with success.
func (term *terminal) shows(text string) bool {
	term.mu.Lock()
	defer term.mu.Unlock()
	at := bytes.Index(term.drawn.Bytes(), []byte(text))
	if at >= 0 {
		term.drawn.Next(at + len(text))
	}
	return at >= 0
}

// cbagent top on a terminal: the table, a circuit in detail, and the end.
func TestTop(t *testing.T) {
	s := newStage(t, 2, []string{"trip: [{consecutiveFailures: 3}]", "open: {duration: 5m}"})
	s.servers[0].Set(testserver.Behaviour{Status: 500})
	s.load(0, 10, 1)
	if stdout, stderr, code := s.run("top"); code != 1 || stdout != "" || stderr != "cbagent: top needs a terminal; for anything else there is cbagent status --watch\n" {
		t.Errorf("without a terminal: code %d, %q, %q", code, stdout, stderr)
	}
	term := newTerminal(t, 140, 40)
	cmd := exec.CommandContext(soon(t), binary, "top", "--control-socket", s.socket)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ keys, want string }{
		{"", s.targets[0].String()}, {"", s.targets[1].String()}, {"\r", "consecutiveFailures 3 of 3"}, {"", "undo:"},
	} {
		if _, err := term.master.WriteString(step.keys); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%q is drawn", step.want), func() bool { return term.shows(step.want) })
	}
	if _, err := term.master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("top ended with %v", err)
	}
}
