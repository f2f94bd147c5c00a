// Command init is the first process of the virtual machines of scripts/test-kernels.sh:
// it makes the machine one that tests can run on, runs each test binary below /tests,
// says how each ended, and powers off.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are made in this order.
var mounts = []struct{ kind, at, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"tmpfs", "/tmp", ""},
	{"tmpfs", "/run", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"bpf", "/sys/fs/bpf", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
}

func main() {
	failed, err := run()
	switch {
	case err != nil:
		fmt.Println("kernel-tests: error:", err)
	case len(failed) > 0:
		fmt.Println("kernel-tests: failed:", strings.Join(failed, " "))
	default:
		fmt.Println("kernel-tests: passed")
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("kernel-tests: power off:", err)
	}
}

// run gives the names of the test binaries that failed.
func run() (failed []string, err error) {
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return nil, fmt.Errorf("mount %s at %s: %w", m.kind, m.at, err)
		}
	}
	// The kernel loads the module behind it when it is opened; making it is udev's work elsewhere.
	if err := os.MkdirAll("/dev/net", 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		return nil, fmt.Errorf("make /dev/net/tun: %w", err)
	}
	for key, value := range map[string]string{
		"PATH":           "/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME":           "/tmp",
		"CBAGENT_BINARY": "/cbagent",
	} {
		if err := os.Setenv(key, value); err != nil {
			return nil, err
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	fmt.Println("kernel-tests: on", unix.ByteSliceToString(name.Release[:]))
	if said, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bring lo up: %w: %s", err, said)
	}

	binaries, err := filepath.Glob("/tests/*/test")
	if err != nil {
		return nil, err
	}
	if len(binaries) == 0 {
		return nil, errors.New("no test binary below /tests")
	}
	for _, binary := range binaries {
		dir := filepath.Dir(binary)
		flags, err := os.ReadFile(filepath.Join(dir, "flags"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		cmd := exec.Command(binary, strings.Fields(string(flags))...)
		cmd.Dir = dir
		// Not the console itself: nothing here is a terminal.
		cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout), io.MultiWriter(os.Stdout)
		if err := cmd.Run(); err != nil {
			fmt.Printf("kernel-tests: %s: %v\n", filepath.Base(dir), err)
			failed = append(failed, filepath.Base(dir))
		}
	}
	return failed, nil
}
