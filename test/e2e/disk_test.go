package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
)

// smallDisk returns a directory on a file system of its own, and a function that fills it to the last byte, which returns
// one that makes room again.
func smallDisk(t *testing.T) (dir string, fill func() (empty func())) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, func() func() {
		t.Helper()
		junk := filepath.Join(dir, "junk")
		if err := os.WriteFile(junk, make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
		return func() {
			t.Helper()
			if err := os.Remove(junk); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The state directory is on a disk that is full: clients are protected, what an operator orders is in force with a warning,
// the next agent keeps it, and all is saved when there is room again.
func TestFullStateDisk(t *testing.T) {
	c := newCrowd(t)
	dir, fill := smallDisk(t)
	l := newLineage(t, c.Node, c.policy, append(c.flags, "--state-dir", dir)...)
	l.start().Expect("the history is not kept over a restart", "cannot write the state file: a restart may lose who forced a circuit")
	empty := fill()
	c.fail()
	c.holds()
	if n := c.lost("history"); n == 0 {
		t.Error("no record of the history's file was lost")
	}
	if n, _ := metric(t, c.Node, "cbagent_state_file_failures_total"); n == 0 {
		t.Error("the state file has not failed")
	}
	if got := c.problem(); !strings.Contains(got, "no space left on device") {
		t.Errorf("the agent's status says %q of its state file", got)
	}
	one := c.targets[7]
	c.wantWarning(c.order("open", "test/"+one.String()), "no space left on device")
	wantAnswer(t, call(t, client(t, c.Client, one)), "forced-open")

	l.now.Kill()
	next := l.start()
	next.Expect("an operator's mode stays, by whom and why is not known")
	next.Allow("the history is not kept over a restart", "cannot write the state file")
	wantAnswer(t, call(t, client(t, c.Client, one)), "forced-open")
	out, err := exec.Command(binary, "status", one.String(), "--control-socket", c.socket).Output()
	if want := "forced-open by unknown: unknown (state file was not saved)"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("status says %s, %v; want %q", out, err, want)
	}
	wantAnswer(t, call(t, client(t, c.Client, c.targets[8])), "open")

	empty()
	eventually(t, "the state file is written again", func() bool {
		behind, _ := metric(t, c.Node, "cbagent_state_file_behind_seconds")
		return behind == 0
	})
	if done := c.order("disable", "test/"+one.String()); done.Warning != "" {
		t.Errorf("an order that can be saved is answered with %q", done.Warning)
	}
	l.now.Kill()
	l.start()
	out, err = exec.Command(binary, "status", one.String(), "--control-socket", c.socket).Output()
	if err != nil || !strings.Contains(string(out), "disabled by root: a test") {
		t.Errorf("status says %s, %v; want who and why", out, err)
	}
}

// The state file is on a disk that does not answer.
func TestHangingStateDisk(t *testing.T) {
	c := newCrowd(t)
	dir := t.TempDir()
	// Who opens it for writing waits for a reader, and there is none.
	if err := unix.Mkfifo(filepath.Join(dir, "state.json.new"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLineage(t, c.Node, c.policy, append(c.flags, "--state-dir", dir)...)
	first := l.start()
	first.Expect("cannot write the state file: the next agent does not know")
	first.Allow("cannot write the state file: a restart may lose who forced a circuit") // once it has been behind for a while
	c.fail()
	c.holds()
	c.wantWarning(c.order("open", "test"), "does not answer")
	wantAnswer(t, call(t, client(t, c.Client, c.targets[7])), "forced-open")
	eventually(t, "the agent says that its disk does not answer", func() bool { return strings.Contains(c.problem(), "does not answer") })
	l.stop()
}

// A state directory belongs to one agent.
func TestStateDirOfAnother(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	dir := t.TempDir()
	first := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}), []string{"be*"}, "--state-dir", dir)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(policyOf([]netip.AddrPort{p.backend})), 0o600); err != nil {
		t.Fatal(err)
	}
	command := []string{binary, "run", "--policy", path, "--interface", "be*", "--metrics-address", "", "--state-dir", dir}
	err := agenttest.StartInVain(t, p.node, loading, command...)
	if want := fmt.Sprintf("--state-dir %s: another agent uses it (process %d)", dir, first.Pid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the second agent said %v, want %s", err, want)
	}
	first.Kill()
	startReady(t, p.node, command...)
}
