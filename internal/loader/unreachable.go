package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/tables"
)

// UnreachableResult is the result of one call of RecordUnreachable.
type UnreachableResult struct {
	Ended  int // attempts whose SYN had been seen
	Unseen int // backends of which no attempt was seen: one outcome each
}

// RecordUnreachable records that clients could not reach these backends, because an address resolution failed at the given
// moment. The attempts that wait for a SYN-ACK end as `unreachable`. For a backend without such an attempt it records one
// outcome, with a permit in half-open; for a circuit that rejects it records none. Only one goroutine at a time may call
// it.
func (d *Datapath) RecordUnreachable(at int64, all []tables.Unreachable) (UnreachableResult, error) {
	errs := []error{d.PutUnreachable(all)}
	args := bpf.CUnreachableArgs{Now: uint64(at)}
	ret, err := d.objs.Unreachable.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	if err == nil && ret != 0 {
		err = fmt.Errorf("the program returned %d", ret)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("record unreachable backends: %w", err))
	}
	errs = append(errs, d.RemoveUnreachable(all))
	return UnreachableResult{Ended: int(args.Ended), Unseen: int(args.Unseen)}, errors.Join(errs...)
}
