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

// PutUnreachable names the backends that the program unreachable looks for; it looks for all that can be named. The
// caller removes them again with RemoveUnreachable, whatever PutUnreachable returns.
func (t *Tables) PutUnreachable(all []Unreachable) error {
	var errs []error
	for _, u := range all {
		if err := t.maps.Unreachables.Put(endpoint(u.Backend), bpf.CUnreachableBackend{Target: uint32(u.Circuit)}); err != nil {
			errs = append(errs, fmt.Errorf("add unreachable backend %s: %w", u.Backend.Addr, err))
		}
	}
	return errors.Join(errs...)
}

// RemoveUnreachable removes what PutUnreachable has named.
func (t *Tables) RemoveUnreachable(all []Unreachable) error {
	var errs []error
	for _, u := range all {
		if err := t.maps.Unreachables.Delete(endpoint(u.Backend)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("remove unreachable backend %s: %w", u.Backend.Addr, err))
		}
	}
	return errors.Join(errs...)
}
