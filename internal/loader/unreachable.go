package loader

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

// UnreachableResult is what one call of RecordUnreachable recorded.
type UnreachableResult struct {
	Ended  int // attempts whose SYN had been seen
	Unseen int // backends of which no attempt was seen: one outcome each
}

// RecordUnreachable records that an address resolution which has failed at the given moment kept clients from these
// backends: the attempts that wait for a SYN-ACK end as `unreachable`; where there is none, one outcome is recorded, with a
// permit in half-open. A circuit that rejects gets none. One goroutine at a time.
func (d *Datapath) RecordUnreachable(at int64, all []Unreachable) (UnreachableResult, error) {
	errs := []error{}
	for _, u := range all {
		if err := d.objs.Unreachables.Put(u.Backend.key(), bpf.CUnreachableBackend{Target: uint32(u.Circuit)}); err != nil {
			errs = append(errs, fmt.Errorf("record that %s cannot be reached: %w", u.Backend.Addr, err))
		}
	}
	args := bpf.CUnreachableArgs{Now: uint64(at)}
	ret, err := d.objs.Unreachable.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	if err != nil {
		errs = append(errs, fmt.Errorf("record what cannot be reached: %w", err))
	} else if ret != 0 {
		errs = append(errs, fmt.Errorf("record what cannot be reached: the program returned %d", ret))
	}
	for _, u := range all {
		if err := d.objs.Unreachables.Delete(u.Backend.key()); err != nil && !isDone(err) {
			errs = append(errs, fmt.Errorf("forget that %s cannot be reached: %w", u.Backend.Addr, err))
		}
	}
	return UnreachableResult{Ended: int(args.Ended), Unseen: int(args.Unseen)}, errors.Join(errs...)
}
