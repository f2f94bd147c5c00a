package kernel

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// step is a packet of a scene: which program gets it, and by how much its sequence numbers grow from one showing of the
// scene to the next, and where it has stream ids of HTTP/2, which grow by 2.
type step struct {
	program      string
	frame        []byte
	seqBy, ackBy uint32
	streams      []int
}

// player is a program that puts the packets of a scene to other programs, each in its turn, by rewriting whatever packet
// it is given and calling on. So BPF_PROG_TEST_RUN can repeat what changes packets and connections. What the rewriting
// itself costs is measured by a player that calls a program which does nothing.
type player struct {
	prog *ebpf.Program
}

// newPlayer returns a player. seqAt is the offset of the sequence number in all frames.
func newPlayer(b *testing.B, scene []step, seqAt int, program func(name string) *ebpf.Program) *player {
	b.Helper()
	p := &player{}
	turn, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	targets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(scene))})
	if err != nil {
		b.Fatal(err)
	}
	for i, s := range scene {
		if err := targets.Put(uint32(i), program(s.program)); err != nil {
			b.Fatal(err)
		}
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.RFP, -8, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, turn.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R8, asm.R7),
		asm.Div.Imm(asm.R8, int32(len(scene))), // showing
		asm.Mod.Imm(asm.R7, int32(len(scene))), // step
	}
	for i := range scene {
		ins = append(ins, asm.JEq.Imm(asm.R7, int32(i), fmt.Sprintf("step%d", i)))
	}
	ins = append(ins, asm.Ja.Label("end"))
	for i, s := range scene {
		ins = append(ins, s.instructions(i, seqAt, targets.FD())...)
	}
	ins = append(ins, asm.Mov.Imm(asm.R0, -1).WithSymbol("end"), asm.Return())
	if p.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: ins}); err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() {
		for _, c := range []func() error{p.prog.Close, targets.Close, turn.Close} {
			if err := c(); err != nil {
				b.Error(err)
			}
		}
	})
	return p
}

// instructions write the step's frame over the packet and call its program.
func (s step) instructions(i, seqAt, targets int) asm.Instructions {
	size := (len(s.frame) + 7) / 8 * 8
	base := int16(-16 - size)
	padded := append(append([]byte(nil), s.frame...), make([]byte, size-len(s.frame))...)
	var ins asm.Instructions
	for at := 0; at < size; at += 8 {
		ins = append(ins,
			asm.LoadImm(asm.R1, int64(binary.LittleEndian.Uint64(padded[at:])), asm.DWord),
			asm.StoreMem(asm.RFP, base+int16(at), asm.R1, asm.DWord))
	}
	ins[0] = ins[0].WithSymbol(fmt.Sprintf("step%d", i))
	for _, n := range []struct {
		at int
		by uint32
	}{{seqAt, s.seqBy}, {seqAt + 4, s.ackBy}} {
		if n.by == 0 {
			continue
		}
		ins = append(ins,
			asm.Mov.Reg(asm.R1, asm.R8),
			asm.Mul.Imm(asm.R1, int32(n.by)),
			asm.LoadImm(asm.R2, int64(binary.BigEndian.Uint32(s.frame[n.at:])), asm.DWord),
			asm.Add.Reg(asm.R1, asm.R2),
			asm.HostTo(asm.BE, asm.R1, asm.Word))
		// The field is aligned to 2 in the frame, and so on the stack.
		ins = append(ins,
			asm.StoreMem(asm.RFP, base+int16(n.at), asm.R1, asm.Half),
			asm.RSh.Imm(asm.R1, 16),
			asm.StoreMem(asm.RFP, base+int16(n.at)+2, asm.R1, asm.Half))
	}
	for _, at := range s.streams {
		ins = append(ins,
			asm.Mov.Reg(asm.R1, asm.R8),
			asm.Add.Reg(asm.R1, asm.R1),
			asm.LoadImm(asm.R2, int64(binary.BigEndian.Uint32(s.frame[at:])), asm.DWord),
			asm.Add.Reg(asm.R1, asm.R2))
		// Byte by byte: the field may be at any address.
		for i := 3; i >= 0; i-- {
			ins = append(ins, asm.StoreMem(asm.RFP, base+int16(at+i), asm.R1, asm.Byte), asm.RSh.Imm(asm.R1, 8))
		}
	}
	return append(ins,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, int32(len(s.frame))),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(base)),
		asm.Mov.Imm(asm.R4, int32(len(s.frame))),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, targets),
		asm.Mov.Imm(asm.R3, int32(i)),
		asm.FnTailCall.Call(),
		asm.Ja.Label("end"))
}
