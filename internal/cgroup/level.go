package cgroup

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// maxLevel is more than the level of any process: the kernel's own default limit for containers is far less.
const maxLevel = 64

// Level returns the depth below the kernel's root of the cgroup that this process, in a container or not, sees under the
// id; the process must run in it or below it. What a mount shows as its root need not be the kernel's: a node that is
// itself a container sees less. Hence the kernel is asked, through a socket that a test run creates for this process.
func Level(id uint64) (int, error) {
	ancestors, err := ebpf.NewMap(&ebpf.MapSpec{Name: "cgroup_id", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return 0, fmt.Errorf("find the level of a cgroup: %w", err)
	}
	defer ancestors.Close()
	for level := range maxLevel {
		got, err := ancestor(ancestors, level)
		if err != nil {
			return 0, fmt.Errorf("find the level of cgroup %d: %w", id, err)
		}
		if got == id {
			return level, nil
		}
		if got == 0 {
			break // deeper than this process is
		}
	}
	return 0, fmt.Errorf("cgroup %d is not above this process", id)
}

// ancestor returns the id of this process's cgroup at a level, or 0 when it has none there.
func ancestor(into *ebpf.Map, level int) (uint64, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "ancestor", Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, int32(level)),
			asm.FnSkbAncestorCgroupId.Call(), // r1 is the packet
			asm.Mov.Reg(asm.R6, asm.R0),
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, into.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
			asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		return 0, err
	}
	defer prog.Close()
	if _, err := prog.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
		return 0, err
	}
	value, err := into.LookupBytes(uint32(0))
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(value), nil
}
