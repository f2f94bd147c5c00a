package tables

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Adopted reports whether the maps are those of a former agent.
func (t *Tables) Adopted() bool { return t.adopted }

// AdoptedBackend is a backend of a former agent that is still in the kernel.
type AdoptedBackend struct {
	Backend
	Circuit int
	Flags   BackendFlags
}

// AdoptedBackends returns the backends of a former agent that have not been put or removed since Open, in no order.
func (t *Tables) AdoptedBackends() []AdoptedBackend {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.inherited))
}

// UsedTables returns which places of the tables of policies and answers the adopted circuits refer to.
func (t *Tables) UsedTables() (policies, answers map[int]bool) {
	policies, answers = map[int]bool{}, map[int]bool{}
	for _, b := range t.AdoptedBackends() {
		index := int(t.targets.vals[b.Circuit].Policy)
		if policies[index] || index >= len(t.policies.vals) {
			continue
		}
		policies[index] = true
		p := &t.policies.vals[index]
		for _, a := range slices.Concat(p.Answers[:], p.Http2Answers[:], p.GrpcAnswers[:]) {
			if a != noAnswer {
				answers[int(a)] = true
			}
		}
	}
	return policies, answers
}

// adopt reads the backends and networks of a former agent, and counts their ports.
func (t *Tables) adopt() error {
	if !t.adopted {
		return nil
	}
	var key bpf.CEndpoint
	var val bpf.CBackend
	it := t.maps.Backends.Iterate()
	for it.Next(&key, &val) {
		b := backendOf(key)
		t.known[key] = true
		t.inherited[key] = AdoptedBackend{Backend: b, Circuit: int(val.Target), Flags: BackendFlags(val.Flags)}
		t.ports[b.Addr.Port()]++
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read backends: %w", err)
	}
	var cidr bpf.CCidrKey
	var bits uint32
	it = t.maps.Cidrs.Iterate()
	for it.Next(&cidr, &bits) {
		port := addrPort(cidr.Addr, cidr.PortBe).Port()
		t.networks[cidr] = port
		t.ports[port]++
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read networks: %w", err)
	}
	t.writePorts()
	return nil
}
