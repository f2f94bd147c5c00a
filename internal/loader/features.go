package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Feature is one thing that the programs need or can use, and whether it is there.
type Feature struct {
	Name     string
	Kernel   string // the first Linux that has it
	Required bool
	Err      error // nil: it is there; ErrNotSupported: it is not; else: could not tell
}

// OK reports whether the feature is there.
func (f Feature) OK() bool { return f.Err == nil }

// Features asks the kernel what it has, by trying.
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

// Supported returns nil when the programs can run here, or one error that names all that is missing.
func Supported() error {
	if os.Geteuid() != 0 && errors.Is(features.HaveProgramType(ebpf.SchedCLS), ebpf.ErrNotSupported) {
		return errors.New("not permitted to load BPF programs: run as root, or with the capabilities BPF, NET_ADMIN and PERFMON")
	}
	var missing []string
	for _, f := range Features() {
		if !f.Required || f.OK() {
			continue
		}
		why := "not supported"
		if !errors.Is(f.Err, ebpf.ErrNotSupported) {
			why = f.Err.Error()
		}
		missing = append(missing, fmt.Sprintf("%s (Linux %s or newer): %s", f.Name, f.Kernel, why))
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("this machine lacks what cbagent needs; run as root or with the capabilities BPF, NET_ADMIN and "+
		"PERFMON on Linux 5.17 or newer:\n  %s", strings.Join(missing, "\n  "))
}

func haveTCX() bool { return tcx() == nil }

// tcx asks by attaching to an interface that does not exist: a kernel without tcx refuses the command itself.
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
