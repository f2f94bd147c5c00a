package tables

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// shared is an array map that this process has mapped into its memory: a store is visible to the programs at once.
type shared[T any] struct {
	mem  []byte
	vals []T
}

func mapShared[T any](m *ebpf.Map) (*shared[T], error) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if int(m.ValueSize()) != size {
		return nil, fmt.Errorf("map %s: value is %d bytes, the agent expects %d: run make generate", m, m.ValueSize(), size)
	}
	page := os.Getpagesize()
	length := (size*int(m.MaxEntries()) + page - 1) / page * page
	mem, err := unix.Mmap(m.FD(), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	return &shared[T]{mem: mem, vals: unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), int(m.MaxEntries()))}, nil
}

func (s *shared[T]) close() error {
	if s == nil || s.mem == nil {
		return nil
	}
	mem := s.mem
	s.mem, s.vals = nil, nil
	return unix.Munmap(mem)
}
