package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/lab/demo"
)

// demoBinary is the agent under a name of the test's own, by which its processes are found. Others run the agent, too.
func demoBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(binary), "demo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // a test runs it as another user
		t.Fatal(err)
	}
	own := filepath.Join(dir, "cbagent")
	if err := os.Link(binary, own); err != nil {
		t.Fatal(err)
	}
	return own
}

// startDemo prepares cbagent demo with a directory of its own for temporary files.
func startDemo(t *testing.T, args ...string) (cmd *exec.Cmd, temp string, stdout, stderr *bytes.Buffer) {
	t.Helper()
	temp = t.TempDir()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd = exec.Command(demoBinary(t), append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, temp, stdout, stderr
}

// links describes the interfaces of the test's own namespace.
func links(t *testing.T) []string {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%s %s xdp=%v", l.Attrs().Name, l.Attrs().Flags, l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached))
	}
	return got
}

// agents returns the processes that run a program.
func agents(t *testing.T, program string) []string {
	t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, exe := range exes {
		// A process may end while it is looked at.
		if target, err := os.Readlink(exe); err == nil && strings.TrimSuffix(target, " (deleted)") == program {
			found = append(found, exe)
		}
	}
	return found
}

// wantNothingLeft fails the test if a demo left processes, files or changes behind.
func wantNothingLeft(t *testing.T, program, temp string, before []string) {
	t.Helper()
	eventually(t, "the agents end", func() bool { return len(agents(t, program)) == 0 })
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v (%v)", left, err)
	}
	if got := links(t); !slices.Equal(got, before) {
		t.Errorf("interfaces are %v, were %v", got, before)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	before := links(t)
	cmd, temp, stdout, stderr := startDemo(t, "-o", "json")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	wantNothingLeft(t, cmd.Path, temp, before)
	var report demo.Report
	decoder := json.NewDecoder(stdout)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	t.Logf("%+v", report)
	if !report.OK || report.AnsweredByKernel == 0 || report.OtherBackendsFailed != 0 || report.LeakedRequests < 5 {
		t.Errorf("report %+v", report)
	}
	var names []string
	for _, p := range report.Phases {
		names = append(names, p.Name)
		if p.Requests == 0 && p.Name != "half-open" {
			t.Errorf("no request in phase %s", p.Name)
		}
	}
	if want := []string{"healthy", "failing", "open", "healing", "half-open", "closed"}; !slices.Equal(names, want) {
		t.Errorf("phases %v, want %v", names, want)
	}
	if !strings.Contains(stderr.String(), "b2 answers 500 from now on") {
		t.Errorf("the run was not shown:\n%s", stderr)
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	before := links(t)
	cmd, temp, stdout, stderr := startDemo(t)
	shown, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	defer func() { _ = shown.Close() }()
	if err := shown.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for !strings.Contains(stdout.String(), "healthy") {
		n, err := shown.Read(buffer)
		if err != nil {
			t.Fatalf("%v after %s %s", err, stdout, stderr)
		}
		stdout.Write(buffer[:n])
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted demo ended as if all were well")
	}
	if got, want := stderr.String(), "cbagent: interrupt signal received\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	wantNothingLeft(t, cmd.Path, temp, before)
}

func TestDemoKilledLeavesNoProcess(t *testing.T) {
	t.Parallel()
	cmd, _, _, _ := startDemo(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the demo starts its agent", func() bool { return len(agents(t, cmd.Path)) == 2 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	eventually(t, "the agent ends with the demo", func() bool { return len(agents(t, cmd.Path)) == 0 })
}

func TestDemoWithoutRoot(t *testing.T) {
	t.Parallel()
	cmd, temp, stdout, stderr := startDemo(t)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); err == nil {
		t.Error("it ended as if all were well")
	}
	if got := stderr.String(); !strings.Contains(got, "CAP_NET_ADMIN") || !strings.Contains(got, "CAP_SYS_ADMIN") || !strings.Contains(got, "as root") {
		t.Errorf("stdout %q, stderr %q; want what is missing", stdout, got)
	}
	wantNothingLeft(t, cmd.Path, temp, links(t))
}
