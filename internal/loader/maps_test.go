package loader

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// shareAll is a share of 1 in a verdict of the programs.
const shareAll = 1 << bpf.CSizeSHARE_BITS

// be16 is a port as it stands in a packet.
func be16(port uint16) uint16 { return port<<8 | port>>8 }

// element reads an element of an array.
func element[T any](t testing.TB, m *ebpf.Map, index int) T {
	t.Helper()
	var v T
	if err := m.Lookup(uint32(index), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// change changes an element of an array. Nothing else may write to it meanwhile.
func change[T any](t testing.TB, m *ebpf.Map, index int, f func(*T)) {
	t.Helper()
	v := element[T](t, m, index)
	f(&v)
	if err := m.Put(uint32(index), &v); err != nil {
		t.Fatal(err)
	}
}

// node reads what is kept for the whole node.
func node(t testing.TB, d *Datapath) bpf.CNodeState {
	t.Helper()
	return element[bpf.CNodeState](t, d.objs.Node, 0)
}
