package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// Direction says which callers a backend is watched for.
type Direction uint8

// Directions.
const (
	Outbound = Direction(bpfDirectionDIRECTION_OUTBOUND) // callers on this node
	Inbound  = Direction(bpfDirectionDIRECTION_INBOUND)  // callers from elsewhere, backends on this node
)

// Backend is an endpoint in one direction. One endpoint may be two backends.
type Backend struct {
	Addr      netip.AddrPort
	Direction Direction
}

// BackendFlags say what is known of where a backend runs.
type BackendFlags uint32

// Flags of a backend.
const (
	OnHost   BackendFlags = 1 << 0 // an address of this node itself
	LocalPod BackendFlags = 1 << 1 // a pod of this node
)

func (b Backend) key() bpfEndpoint {
	return bpfEndpoint{Addr: addr16(b.Addr.Addr().Unmap()), PortBe: be16(b.Addr.Port()), Direction: uint16(b.Direction)}
}

// PutBackend makes a circuit responsible for a backend. It replaces what was said of the backend before.
func (d *Datapath) PutBackend(b Backend, circuit int, flags BackendFlags) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := b.key()
	if err := d.objs.Backends.Put(key, bpfBackend{Circuit: uint32(circuit), Flags: uint32(flags)}); err != nil {
		return fmt.Errorf("add backend %s: %w", b.Addr, err)
	}
	if !d.known[key] {
		d.known[key] = true
		d.watchPort(b.Addr.Port(), 1)
	}
	return nil
}

// RemoveBackend lets the traffic of a backend alone. Connections that are followed go on until they end.
func (d *Datapath) RemoveBackend(b Backend) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := b.key()
	if err := d.objs.Backends.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove backend %s: %w", b.Addr, err)
	}
	if d.known[key] {
		delete(d.known, key)
		d.watchPort(b.Addr.Port(), -1)
	}
	return nil
}

// watchPort counts those who need a port, and sets or clears its bit for the programs.
func (d *Datapath) watchPort(port uint16, by int) {
	d.ports[port] += by
	word, bit := &d.node.vals[0].Ports[port/64], uint64(1)<<(port%64)
	if d.ports[port] > 0 {
		atomic.OrUint64(word, bit)
		return
	}
	delete(d.ports, port)
	atomic.AndUint64(word, ^bit)
}

// SetHostBackends tells the programs whether any backend is an address of the node itself, which needs both directions
// looked at on every interface.
func (d *Datapath) SetHostBackends(on bool) { d.setFlag(1<<1, on) }

// PutCIDR has backends of a network reported as they are called: an EventLearn for each, at most one a second.
func (d *Datapath) PutCIDR(p netip.Prefix, port uint16, dir Direction) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := cidrKey(p, port)
	bits := d.cidrs[key] | 1<<dir
	if err := d.objs.Cidrs.Put(key, bits); err != nil {
		return fmt.Errorf("add network %s port %d: %w", p, port, err)
	}
	if d.cidrs[key] == 0 {
		d.watchPort(port, 1)
	}
	d.cidrs[key] = bits
	return nil
}

// RemoveCIDR is the inverse of PutCIDR.
func (d *Datapath) RemoveCIDR(p netip.Prefix, port uint16, dir Direction) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := cidrKey(p, port)
	bits := d.cidrs[key] &^ (1 << dir)
	if d.cidrs[key] == 0 {
		return nil
	}
	var err error
	if bits == 0 {
		err = d.objs.Cidrs.Delete(key)
	} else {
		err = d.objs.Cidrs.Put(key, bits)
	}
	if err != nil {
		return fmt.Errorf("remove network %s port %d: %w", p, port, err)
	}
	if bits == 0 {
		delete(d.cidrs, key)
		d.watchPort(port, -1)
		return nil
	}
	d.cidrs[key] = bits
	return nil
}

// bits16 is the length of a prefix in the programs' 16-byte addresses.
func bits16(p netip.Prefix) uint32 {
	if p.Addr().Is4() {
		return uint32(p.Bits()) + 96
	}
	return uint32(p.Bits())
}

func cidrKey(p netip.Prefix, port uint16) bpfCidrKey {
	return bpfCidrKey{PrefixLen: 16 + bits16(p), PortBe: be16(port), Addr: addr16(p.Masked().Addr())}
}

// SetExemptSources names the callers that a policy neither judges nor turns away, in place of those named before.
// policy is PolicySettings.ID.
func (d *Datapath) SetExemptSources(policy uint32, sources []netip.Prefix) error {
	want := map[bpfSourceKey]bool{}
	for _, p := range sources {
		want[bpfSourceKey{PrefixLen: 32 + bits16(p), Policy: policy, Addr: addr16(p.Masked().Addr())}] = true
	}
	var key bpfSourceKey
	var val uint32
	var stale []bpfSourceKey
	it := d.objs.ExemptSources.Iterate()
	for it.Next(&key, &val) {
		if key.Policy == policy && !want[key] {
			stale = append(stale, key)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read exempt callers: %w", err)
	}
	for k := range want {
		if err := d.objs.ExemptSources.Put(k, uint32(1)); err != nil {
			return fmt.Errorf("add exempt caller %s: %w", netip.AddrFrom16(k.Addr).Unmap(), err)
		}
	}
	for _, k := range stale {
		if err := d.objs.ExemptSources.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove exempt caller: %w", err)
		}
	}
	return nil
}
