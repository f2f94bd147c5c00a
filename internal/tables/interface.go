package tables

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// SetUplinks names the interfaces, by ifindex, through which remote traffic enters the node, in place of those named
// before.
func (t *Tables) SetUplinks(ifindexes []int) error { return setInterfaces(t.maps.Uplinks, ifindexes) }

// SetEntries names the interfaces, by ifindex, where the programs may reject clients as they enter the node, in place of
// those named before.
func (t *Tables) SetEntries(ifindexes []int) error {
	t.setFlag(bpf.CNodeFlagNODE_REJECT_AT_ENTRY, len(ifindexes) > 0)
	return setInterfaces(t.maps.Entries, ifindexes)
}

// setInterfaces makes the keys of a map those that are named.
func setInterfaces(m *ebpf.Map, ifindexes []int) error {
	stale := map[uint32]bool{}
	var key, val uint32
	it := m.Iterate()
	for it.Next(&key, &val) {
		stale[key] = true
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", m, err)
	}
	for _, i := range ifindexes {
		key := uint32(i)
		if stale[key] {
			delete(stale, key)
			continue
		}
		if err := m.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("add interface %d to %s: %w", i, m, err)
		}
	}
	for key := range stale {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove interface %d from %s: %w", key, m, err)
		}
	}
	return nil
}
