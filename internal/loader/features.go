package loader

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Feature is a feature of the kernel that the programs need or can use, and whether the kernel has it.
type Feature struct {
	Name     string
	Kernel   string // the first Linux that has it
	Required bool
	Err      error // nil: the kernel has it; ErrNotSupported: it does not; other errors: not known
}

// OK reports whether the kernel has the feature.
func (f Feature) OK() bool { return f.Err == nil }

// Features probes the kernel for each feature.
func Features() []Feature {
	all := []Feature{
		{"ring buffer", "5.8", true, features.HaveMapType(ebpf.RingBuf)},
		{"bpf_loop", "5.17", true, features.HaveProgramHelper(ebpf.SchedCLS, asm.FnLoop)},
		{"bpf_for_each_map_elem", "5.13", true, features.HaveProgramHelper(ebpf.SchedCLS, asm.FnForEachMapElem)},
		{"coarse clock", "5.11", true, features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs)},
		{"syscall programs", "5.14", true, features.HaveProgramType(ebpf.Syscall)},
		{"tcx", "6.6", false, tcx()},
	}
	return all
}

// ErrNotPermitted means that this process lacks rights to load or attach the programs.
var ErrNotPermitted = errors.New("not permitted to load and attach BPF programs")

// Supported returns nil when the programs can run here, or one error that names all that is missing.
func Supported() error {
	if missing := MissingCapabilities(); len(missing) > 0 {
		return fmt.Errorf("%w: this process lacks the capabilities %s: run as root (sudo; in a systemd unit CapabilityBoundingSet=CAP_BPF "+
			"CAP_NET_ADMIN CAP_PERFMON), in a pod with securityContext `runAsUser: 0` and `capabilities: {add: [BPF, NET_ADMIN, PERFMON]}`",
			ErrNotPermitted, strings.Join(missing, ", "))
	}
	return unsupported(Features())
}

func unsupported(all []Feature) error {
	var missing []string
	var refused int
	for _, f := range all {
		if !f.Required || f.OK() {
			continue
		}
		if errors.Is(f.Err, unix.EPERM) {
			refused++
		}
		why := "not there"
		if !errors.Is(f.Err, ebpf.ErrNotSupported) {
			why = "could not tell: " + f.Err.Error()
		}
		missing = append(missing, fmt.Sprintf("%s (Linux %s or newer): %s", f.Name, f.Kernel, why))
	}
	switch {
	case len(missing) == 0:
		return nil
	case refused == len(missing):
		return fmt.Errorf("%w: the bpf system call is refused although the capabilities are there, by a seccomp profile or a security "+
			"module: SystemCallFilter= of the systemd unit must have bpf and perf_event_open, in a pod try securityContext "+
			"`seccompProfile: {type: Unconfined}` (an older runtime's default refuses bpf); dmesg and the audit log name others", ErrNotPermitted)
	}
	return fmt.Errorf("this kernel lacks what cbagent needs, which Linux 5.17 has: install a newer one (uname -r tells which runs)\n  %s",
		strings.Join(missing, "\n  "))
}

// MissingCapabilities names those that loading and attaching need and this process does not have. SYS_ADMIN stands for
// BPF and PERFMON.
func MissingCapabilities() []string {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil // the kernel reports missing rights itself
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	var missing []string
	for _, c := range []struct {
		name string
		bit  uint
	}{{"BPF", unix.CAP_BPF}, {"NET_ADMIN", unix.CAP_NET_ADMIN}, {"PERFMON", unix.CAP_PERFMON}} {
		if !has(c.bit) && (c.bit == unix.CAP_NET_ADMIN || !has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

func haveTCX() bool { return tcx() == nil }

// tcx probes by attaching to an interface that does not exist: a kernel without tcx rejects the command itself.
var tcx = sync.OnceValue(func() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: 1 << 30, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		l.Close()
		return nil
	}
	if errors.Is(err, link.ErrNotSupported) {
		return err
	}
	return nil
})
