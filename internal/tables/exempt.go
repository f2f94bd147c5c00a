package tables

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// SetExemptSources names the clients that the policy at an index of PutPolicy neither judges nor rejects, in place of those
// named before. A policy without ExemptSome does not look at them.
func (t *Tables) SetExemptSources(policy int, sources []netip.Prefix) error {
	want := map[bpf.CSourceKey]bool{}
	for _, p := range sources {
		want[bpf.CSourceKey{PrefixLen: 32 + bits16(p), Policy: uint32(policy), Addr: p.Masked().Addr().As16()}] = true
	}
	var key bpf.CSourceKey
	var val uint32
	var stale []bpf.CSourceKey
	it := t.maps.ExemptSources.Iterate()
	for it.Next(&key, &val) {
		if key.Policy == uint32(policy) && !want[key] {
			stale = append(stale, key)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read exempt clients: %w", err)
	}
	for k := range want {
		if err := t.maps.ExemptSources.Put(k, uint32(1)); err != nil {
			return fmt.Errorf("add exempt client %s: %w", netip.AddrFrom16(k.Addr).Unmap(), err)
		}
	}
	for _, k := range stale {
		if err := t.maps.ExemptSources.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove exempt client %s: %w", netip.AddrFrom16(k.Addr).Unmap(), err)
		}
	}
	return nil
}
