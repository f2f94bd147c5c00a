package loader

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/cbagent/cbagent/internal/bpf"
)

// maxStack is what the kernel allows a whole chain of calls. Each function's share is rounded up to 32 bytes; newer
// kernels round less, and so let programs pass that older ones refuse.
const (
	maxStack      = 512
	stackRounding = 32
)

// function is one of a program: how much stack it takes, and whom it calls.
type function struct {
	stack int
	calls map[string]bool
}

func functions(p *ebpf.ProgramSpec) map[string]*function {
	all := map[string]*function{}
	var f *function
	frame := map[asm.Register]bool{asm.RFP: true} // registers that hold the frame pointer
	for _, ins := range p.Instructions {
		if name := ins.Symbol(); name != "" && (name == p.Name || isFunction(p, name)) {
			f = &function{calls: map[string]bool{}}
			all[name] = f
			frame = map[asm.Register]bool{asm.RFP: true}
		}
		deepest := func(offset int) {
			if -offset > f.stack {
				f.stack = -offset
			}
		}
		op := ins.OpCode
		switch {
		case ins.IsFunctionCall() || ins.IsLoadOfFunctionPointer():
			f.calls[ins.Reference()] = true
		case op.Class().IsStore() && ins.Dst == asm.RFP, op.Class() == asm.LdXClass && ins.Src == asm.RFP:
			deepest(int(ins.Offset))
		case op.Class().IsALU() && op.ALUOp() == asm.Mov && op.Source() == asm.RegSource:
			frame[ins.Dst] = frame[ins.Src] || ins.Dst == asm.RFP
		case op.Class().IsALU() && op.ALUOp() == asm.Add && op.Source() == asm.ImmSource && frame[ins.Dst]:
			deepest(int(ins.Constant))
		}
	}
	return all
}

// isFunction reports whether something refers to a symbol as to a function.
func isFunction(p *ebpf.ProgramSpec, name string) bool {
	for _, ins := range p.Instructions {
		if (ins.IsFunctionCall() || ins.IsLoadOfFunctionPointer()) && ins.Reference() == name {
			return true
		}
	}
	return false
}

// deepest returns the most stack that a chain of calls takes, and that chain.
func deepest(all map[string]*function, name string) (int, []string) {
	f := all[name]
	own := (max(f.stack, 1) + stackRounding - 1) / stackRounding * stackRounding
	most, chain := 0, []string(nil)
	for callee := range f.calls {
		if n, c := deepest(all, callee); n > most {
			most, chain = n, c
		}
	}
	return own + most, append([]string{name}, chain...)
}

func TestStackFitsOlderKernels(t *testing.T) {
	spec, err := bpf.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		n, chain := deepest(functions(p), p.Name)
		t.Logf("%s: %d bytes in %v", name, n, chain)
		if n > maxStack {
			t.Errorf("%s takes %d bytes of stack in %v: older kernels allow %d", name, n, chain, maxStack)
		}
	}
}
