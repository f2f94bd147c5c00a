package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Direction says which clients a backend is watched for.
type Direction uint8

// Directions.
const (
	Outbound = Direction(bpf.CDirectionDIRECTION_OUTBOUND) // clients on this node
	Inbound  = Direction(bpf.CDirectionDIRECTION_INBOUND)  // clients from elsewhere, backends on this node
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
	OnHost   = BackendFlags(bpf.CBackendFlagBACKEND_HOST)      // an address of this node itself
	LocalPod = BackendFlags(bpf.CBackendFlagBACKEND_LOCAL_POD) // a pod of this node
)

func (b Backend) key() bpf.CEndpoint {
	return bpf.CEndpoint{Addr: addr16(b.Addr.Addr().Unmap()), PortBe: be16(b.Addr.Port()), Direction: uint16(b.Direction)}
}

// PutBackend makes a circuit responsible for a backend. It replaces what was said of the backend before; connections whose
// SYN the former circuit answered are the new one's.
func (d *Datapath) PutBackend(b Backend, circuit int, flags BackendFlags) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := b.key()
	var former bpf.CBackend
	if err := d.objs.Backends.Lookup(key, &former); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("look up backend %s: %w", b.Addr, err)
	} else if err == nil {
		d.handOver(int(former.Target), circuit)
		defer d.handOver(int(former.Target), circuit) // what was answered until the new circuit was in force
	}
	if err := d.objs.Backends.Put(key, bpf.CBackend{Target: uint32(circuit), Flags: uint32(flags)}); err != nil {
		return fmt.Errorf("add backend %s: %w", b.Addr, err)
	}
	delete(d.inherited, key)
	if !d.known[key] {
		d.known[key] = true
		d.watchPort(b.Addr.Port(), 1)
	}
	d.noteHostBackend(key, onThisHost(key, flags))
	return nil
}

// handOver has a circuit look for the rest of connections whose SYN another one answered, for as long as that would.
func (d *Datapath) handOver(from, to int) {
	if from == to || from >= len(d.circuits.vals) {
		return
	}
	until := atomic.LoadUint64(&d.circuits.vals[from].AnsweringUntil)
	word := &d.circuits.vals[to].AnsweringUntil
	for {
		old := atomic.LoadUint64(word)
		if old >= until || atomic.CompareAndSwapUint64(word, old, until) {
			return
		}
	}
}

// RemoveBackend lets the traffic of a backend alone. Connections that are followed go on until they end.
func (d *Datapath) RemoveBackend(b Backend) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := b.key()
	if err := d.objs.Backends.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove backend %s: %w", b.Addr, err)
	}
	delete(d.inherited, key)
	if d.known[key] {
		delete(d.known, key)
		d.watchPort(b.Addr.Port(), -1)
	}
	d.noteHostBackend(key, false)
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
func (d *Datapath) SetHostBackends(on bool) { d.setFlag(bpf.CNodeFlagNODE_HOST_BACKENDS, on) }

// Network is a range whose backends are learned from traffic.
type Network struct {
	Prefix    netip.Prefix
	Port      uint16
	Direction Direction
}

// SetNetworks has calls to unknown backends of these networks, and of no others, reported: an EventLearn for each, at
// most one a second.
func (d *Datapath) SetNetworks(all []Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	want, ports := map[bpf.CCidrKey]uint32{}, map[bpf.CCidrKey]uint16{}
	for _, n := range all {
		key := cidrKey(n.Prefix, n.Port)
		want[key] |= 1 << n.Direction
		ports[key] = n.Port
	}
	for key, bits := range want {
		if err := d.objs.Cidrs.Put(key, bits); err != nil {
			return fmt.Errorf("add network %s, port %d: %w", netip.AddrFrom16(key.Addr).Unmap(), ports[key], err)
		}
		if _, ok := d.networks[key]; !ok {
			d.networks[key] = ports[key]
			d.watchPort(ports[key], 1)
		}
	}
	for key, port := range d.networks {
		if _, ok := want[key]; ok {
			continue
		}
		if err := d.objs.Cidrs.Delete(key); err != nil && !isDone(err) {
			return fmt.Errorf("remove network %s, port %d: %w", netip.AddrFrom16(key.Addr).Unmap(), port, err)
		}
		delete(d.networks, key)
		d.watchPort(port, -1)
	}
	return nil
}

// bits16 is the length of a prefix in the programs' 16-byte addresses.
func bits16(p netip.Prefix) uint32 {
	if p.Addr().Is4() {
		return uint32(p.Bits()) + 96
	}
	return uint32(p.Bits())
}

func cidrKey(p netip.Prefix, port uint16) bpf.CCidrKey {
	return bpf.CCidrKey{PrefixLen: 16 + bits16(p), PortBe: be16(port), Addr: addr16(p.Masked().Addr())}
}

// SetExemptSources names the clients that a policy neither judges nor rejects, in place of those named before.
// policy is PolicySettings.ID.
func (d *Datapath) SetExemptSources(policy uint32, sources []netip.Prefix) error {
	want := map[bpf.CSourceKey]bool{}
	for _, p := range sources {
		want[bpf.CSourceKey{PrefixLen: 32 + bits16(p), Policy: policy, Addr: addr16(p.Masked().Addr())}] = true
	}
	var key bpf.CSourceKey
	var val uint32
	var stale []bpf.CSourceKey
	it := d.objs.ExemptSources.Iterate()
	for it.Next(&key, &val) {
		if key.Policy == policy && !want[key] {
			stale = append(stale, key)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read exempt clients: %w", err)
	}
	for k := range want {
		if err := d.objs.ExemptSources.Put(k, uint32(1)); err != nil {
			return fmt.Errorf("add exempt client %s: %w", netip.AddrFrom16(k.Addr).Unmap(), err)
		}
	}
	for _, k := range stale {
		if err := d.objs.ExemptSources.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove exempt client: %w", err)
		}
	}
	return nil
}
