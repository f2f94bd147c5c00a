package tables

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Network is a range of addresses whose backends are learned from traffic.
type Network struct {
	Prefix    netip.Prefix
	Port      uint16
	Direction Direction
}

func (n Network) key() bpf.CCidrKey {
	return bpf.CCidrKey{PrefixLen: 16 + bits16(n.Prefix), PortBe: be16(n.Port), Addr: n.Prefix.Masked().Addr().As16()}
}

// SetNetworks names the networks in which a connection to an unknown backend is reported, in place of those named before.
// Such a backend is reported as a ledger.EventLearn, at most once a second.
func (t *Tables) SetNetworks(all []Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	want, ports := map[bpf.CCidrKey]uint32{}, map[bpf.CCidrKey]uint16{}
	for _, n := range all {
		key := n.key()
		want[key] |= 1 << n.Direction
		ports[key] = n.Port
	}
	for key, bits := range want {
		if err := t.maps.Cidrs.Put(key, bits); err != nil {
			return fmt.Errorf("add network %s, port %d: %w", netip.AddrFrom16(key.Addr).Unmap(), ports[key], err)
		}
		if _, ok := t.networks[key]; !ok {
			t.networks[key] = ports[key]
			t.watchPort(ports[key], 1)
		}
	}
	for key, port := range t.networks {
		if _, ok := want[key]; ok {
			continue
		}
		if err := t.maps.Cidrs.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove network %s, port %d: %w", netip.AddrFrom16(key.Addr).Unmap(), port, err)
		}
		delete(t.networks, key)
		t.watchPort(port, -1)
	}
	return nil
}
