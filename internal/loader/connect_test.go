package loader

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// dialEnv has this binary connect to an address and print how that went, instead of running tests: a process may be put
// into a cgroup, a goroutine may not.
const dialEnv = "CBAGENT_LOADER_TEST_DIAL"

func init() {
	to := os.Getenv(dialEnv)
	if to == "" {
		return
	}
	c, err := net.Dial("tcp", to)
	if err == nil {
		_ = c.Close()
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		fmt.Print(sys)
	} else {
		fmt.Print(err)
	}
	os.Exit(0)
}

// The kubelet, a process outside the pods' cgroup, reaches the pods whose health it checks. Processes of pods are rejected.
func TestConnectLeavesKubeletAlone(t *testing.T) {
	r := newRig(t)
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(root, fmt.Sprintf("cbagent-loader-%d", os.Getpid()))
	pods, pod, kubelet := filepath.Join(top, "kubepods"), filepath.Join(top, "kubepods", "pod"), filepath.Join(top, "kubelet")
	for _, dir := range []string{top, pods, pod, kubelet} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
	}
	for name, attach := range map[string]ebpf.AttachType{
		"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: top, Attach: attach, Program: r.program(name)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	id, level, err := cgroup.NodePods{Root: root, Pods: filepath.Join(filepath.Base(top), "kubepods")}.Place()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.d.SetPodsCgroup(0, 0) })

	for _, host := range []string{"127.0.0.1", "::1"} {
		backend := netip.AddrPortFrom(netip.MustParseAddr(host), 8080)
		l, err := r.ns.Listen(backend)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		r.put(backend, tables.PolicySettings{Reject: tables.Reset}, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1})
		for _, tc := range []struct {
			name, from string
			pods       uint64 // id of the pods' cgroup, 0: not known
			rejected   bool
		}{
			{"the kubelet", kubelet, id, false},
			{"a pod", pod, id, true},
			{"a process of a node without pods", kubelet, 0, true},
		} {
			t.Run(tc.name+" to "+host, func(t *testing.T) {
				r.d.SetPodsCgroup(tc.pods, level)
				r.counted()
				got, want := r.dialFrom(t, tc.from, backend), "<nil>"
				if tc.rejected {
					want = syscall.ECONNREFUSED.Error()
				}
				if got != want {
					t.Errorf("connect: %s, want %s", got, want)
				}
				if tc.rejected {
					r.wantCounted("connect reset forced-open")
				} else {
					r.wantCounted()
				}
			})
		}
	}
}

// dialFrom has a process of a cgroup connect, in the namespace of the rig.
func (r *rig) dialFrom(t *testing.T, group string, to netip.AddrPort) string {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), dialEnv+"="+to.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return string(said)
}
