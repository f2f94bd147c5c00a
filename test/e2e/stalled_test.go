package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fillPipe writes to a pipe until it is full.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	// A description of its own: the agent's stays one that waits.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(w.Fd())), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, chunk := range [][]byte{bytes.Repeat([]byte("-"), 4096), []byte("\n")} {
		for err = nil; err == nil; {
			_, err = unix.Write(fd, chunk)
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
}

// output is what is read from a pipe.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Nobody reads the agent's log while hundreds of circuits open: clients are protected all the same, the lines are dropped
// and counted, and the log says how many once it is read again.
func TestLogThatNobodyReads(t *testing.T) {
	c := newCrowd(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(c.policy), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"run", "--policy", policy, "--interface", "be*", "--state-dir", t.TempDir()}, c.flags...)...)
	cmd.Stderr = w
	if err := c.Node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	client := c.control()
	eventually(t, "the agent is ready", func() bool {
		ready, err := client.Ready(soon(t))
		return err == nil && ready.Ready
	})

	fillPipe(t, w)
	c.fail()
	c.holds()
	// Each order is a line for each circuit.
	for rounds := 0; c.lost("log") == 0; rounds++ {
		if rounds == 20 {
			t.Fatal("no line of the log was dropped")
		}
		c.order("open", "test")
		c.order("auto", "test")
	}

	var log output
	go func() { _, _ = io.Copy(&log, r) }()
	eventually(t, "the log says how many lines were dropped", func() bool {
		return strings.Contains(log.String(), "log lines were dropped")
	})
	if recovered, _ := metric(t, c.Node, "cbagent_ring_events_recovered_total"); recovered > 0 {
		t.Errorf("%v events were recovered", recovered)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the agent does not end")
	}
	eventually(t, "the last words are in the log", func() bool { return strings.Contains(log.String(), "msg=stopping") })
	known := regexp.MustCompile(`to=(open|forced-open) |log lines were dropped|without --bpffs`)
	for line := range strings.Lines(log.String()) {
		if (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")) && !known.MatchString(line) {
			t.Errorf("the agent logged, unannounced: %s", line)
		}
	}
}
