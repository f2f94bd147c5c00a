package tables

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Unreachable is a backend whose neighbour, or next hop, did not answer.
type Unreachable struct {
	Backend Backend
	Circuit int // its circuit
}

// PutUnreachable writes the backends for which the program unreachable searches connections. After an error some of them
// are in the map. The caller removes them with RemoveUnreachable, whatever PutUnreachable returns.
func (t *Tables) PutUnreachable(all []Unreachable) error {
	var errs []error
	for _, u := range all {
		if err := t.maps.Unreachables.Put(endpoint(u.Backend), bpf.CUnreachableBackend{Target: uint32(u.Circuit)}); err != nil {
			errs = append(errs, fmt.Errorf("add unreachable backend %s: %w", u.Backend.Addr, err))
		}
	}
	return errors.Join(errs...)
}

// RemoveUnreachable removes the backends that PutUnreachable has written.
func (t *Tables) RemoveUnreachable(all []Unreachable) error {
	var errs []error
	for _, u := range all {
		if err := t.maps.Unreachables.Delete(endpoint(u.Backend)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("remove unreachable backend %s: %w", u.Backend.Addr, err))
		}
	}
	return errors.Join(errs...)
}
