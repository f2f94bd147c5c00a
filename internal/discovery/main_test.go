package discovery

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// inNamespace marks the process that runs in a network namespace of its own.
const inNamespace = "CBAGENT_TEST_IN_NAMESPACE"

// TestMain runs the tests in a network namespace of their own, so that a DNS server can listen where resolv.conf
// expects one, on port 53.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		os.Exit(runInNamespace())
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bring up lo in the namespace of the tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runInNamespace() int {
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inNamespace+"=1")
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := again.Run()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return failed.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace of their own (needs root or user namespaces):", err)
		return 1
	}
	return 0
}
