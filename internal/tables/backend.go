package tables

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Direction is the place of the clients whose connections to a backend are watched.
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

// BackendFlags describe where a backend runs.
type BackendFlags uint32

// Flags of a backend.
const (
	OnHost   = BackendFlags(bpf.CBackendFlagBACKEND_HOST)      // an address of this node itself
	LocalPod = BackendFlags(bpf.CBackendFlagBACKEND_LOCAL_POD) // a pod of this node
)

// PutBackend sets the circuit and the flags of a backend, and replaces former ones. Connections whose SYN was admitted
// under the former circuit become the new one's.
func (t *Tables) PutBackend(b Backend, circuit int, flags BackendFlags) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := endpoint(b)
	var former bpf.CBackend
	if err := t.maps.Backends.Lookup(key, &former); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("look up backend %s: %w", b.Addr, err)
	} else if err == nil {
		t.handOver(int(former.Target), circuit)
		defer t.handOver(int(former.Target), circuit) // for SYNs that were answered before the new circuit is in force
	}
	if err := t.maps.Backends.Put(key, bpf.CBackend{Target: uint32(circuit), Flags: uint32(flags)}); err != nil {
		return fmt.Errorf("add backend %s: %w", b.Addr, err)
	}
	delete(t.inherited, key)
	if !t.known[key] {
		t.known[key] = true
		t.watchPort(b.Addr.Port(), 1)
	}
	return nil
}

// handOver makes the programs look for connections whose SYN circuit from answered at circuit to as well, for as long as
// they would at from.
func (t *Tables) handOver(from, to int) {
	if from == to || from >= len(t.circuits.vals) {
		return
	}
	until := atomic.LoadUint64(&t.circuits.vals[from].AnsweringUntil)
	word := &t.circuits.vals[to].AnsweringUntil
	for {
		old := atomic.LoadUint64(word)
		if old >= until || atomic.CompareAndSwapUint64(word, old, until) {
			return
		}
	}
}

// RemoveBackend stops watching a backend. It returns no error if the backend is not watched. Connections that are followed
// stay followed until they end.
func (t *Tables) RemoveBackend(b Backend) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := endpoint(b)
	if err := t.maps.Backends.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove backend %s: %w", b.Addr, err)
	}
	delete(t.inherited, key)
	if t.known[key] {
		delete(t.known, key)
		t.watchPort(b.Addr.Port(), -1)
	}
	return nil
}
