package tables

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// StatusCount is how often a circuit's backend answered with a status.
type StatusCount struct {
	Circuit int
	Status  int
	Count   uint64
}

// Statuses reads the responses of all circuits by status.
func (t *Tables) Statuses() ([]StatusCount, error) {
	var all []StatusCount
	keys := make([]bpf.CStatusKey, 1024)
	vals := make([]uint64, 1024)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := t.maps.Statuses.BatchLookup(&cursor, keys, vals, nil)
		for i := range n {
			all = append(all, StatusCount{Circuit: int(keys[i].Circuit), Status: int(keys[i].Status), Count: vals[i]})
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("read counts by status: %w", err)
		}
	}
}

// ForgetStatuses removes the counts by status of circuits that are no longer used.
func (t *Tables) ForgetStatuses(circuits map[int]bool) error {
	all, err := t.Statuses()
	if err != nil {
		return err
	}
	for _, s := range all {
		if !circuits[s.Circuit] {
			continue
		}
		if err := t.maps.Statuses.Delete(bpf.CStatusKey{Circuit: uint32(s.Circuit), Status: uint32(s.Status)}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove counts by status: %w", err)
		}
	}
	return nil
}
