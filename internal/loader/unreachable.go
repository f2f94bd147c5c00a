package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/tables"
)

// UnreachableResult is what one call of RecordUnreachable recorded.
type UnreachableResult struct {
	Ended  int // attempts whose SYN had been seen
	Unseen int // backends of which no attempt was seen: one outcome each
}

// RecordUnreachable records that an address resolution which has failed at the given moment kept clients from these
// backends: the attempts that wait for a SYN-ACK end as `unreachable`; where there is none, one outcome is recorded, with a
// permit in half-open. A circuit that rejects gets none. One goroutine at a time.
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
