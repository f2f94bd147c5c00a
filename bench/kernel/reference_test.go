package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// newReference returns a program that does the least that following a connection takes: it parses an Ethernet frame to the
// ports of TCP, and makes one lookup in a hash table by addresses and ports. Costs of the programs are compared with it,
// because nanoseconds of one machine mean nothing on another.
func newReference() (*ebpf.Program, error) {
	const key = 36 // two addresses of IPv6 and two ports
	flows, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: key, ValueSize: 64, MaxEntries: 65536})
	if err != nil {
		return nil, err
	}
	defer flows.Close() //nolint:errcheck // the program holds it
	load := func(offset, size, to int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, offset), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, to-key),
			asm.Mov.Imm(asm.R4, size), asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "end"),
		}
	}
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.LoadMem(asm.R7, asm.R1, 16, asm.Word)} // skb->protocol
	for at := int16(0); at < key; at += 4 {
		ins = append(ins, asm.StoreImm(asm.RFP, at-key, 0, asm.Word))
	}
	ins = append(ins, asm.JEq.Imm(asm.R7, 0xdd86, "v6"))
	for _, l := range [][3]int32{{26, 4, 12}, {30, 4, 28}, {34, 4, 32}} {
		ins = append(ins, load(l[0], l[1], l[2])...)
	}
	ins = append(ins, asm.Ja.Label("lookup"))
	v6 := append(load(22, 32, 0), load(54, 4, 32)...)
	v6[0] = v6[0].WithSymbol("v6")
	ins = append(ins, v6...)
	ins = append(ins,
		asm.LoadMapPtr(asm.R1, flows.FD()).WithSymbol("lookup"), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -key),
		asm.FnMapLookupElem.Call(), asm.Mov.Imm(asm.R0, -1).WithSymbol("end"), asm.Return())
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: ins})
}
