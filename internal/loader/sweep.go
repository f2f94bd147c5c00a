package loader

import (
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/bpf"
)

// SweepResult is the result of one sweep.
type SweepResult struct {
	Flows  int           // followed connections
	Number int64         // of the sweep, for Pending
	Took   time.Duration // CPU time of the sweep
	Due    int64         // when the next pending request or SYN times out; 0: none does
}

// Sweep times out requests and SYNs that get no reply, and removes connections that were silent for longer than idle. Only
// one goroutine at a time may call it.
func (d *Datapath) Sweep(idle time.Duration) (SweepResult, error) {
	return d.sweep(bpf.CSweepArgs{Idle: uint64(idle)})
}

// ForgetInterface runs a sweep that also removes the connections through an interface that no longer exists: no hook sees
// their end.
func (d *Datapath) ForgetInterface(ifindex int, idle time.Duration) (SweepResult, error) {
	return d.sweep(bpf.CSweepArgs{Idle: uint64(idle), RemovedIfindex: uint64(ifindex)})
}

func (d *Datapath) sweep(args bpf.CSweepArgs) (SweepResult, error) {
	var ret uint32
	took, err := cpuTime(func() (err error) {
		ret, err = d.objs.Sweep.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
		return err
	})
	if err != nil {
		return SweepResult{}, fmt.Errorf("sweep the connections: %w", err)
	}
	if ret != 0 {
		return SweepResult{}, fmt.Errorf("sweep the connections: the program returned %d", ret)
	}
	return SweepResult{
		Flows:  int(args.Flows),
		Number: d.Sweeps(),
		Took:   took,
		Due:    int64(args.Due),
	}, nil
}

// cpuTime runs f and returns the time that the calling thread spent on a CPU meanwhile.
func cpuTime(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before); err != nil {
		return 0, fmt.Errorf("read the thread's CPU time: %w", err)
	}
	if err := f(); err != nil {
		return 0, err
	}
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after); err != nil {
		return 0, fmt.Errorf("read the thread's CPU time: %w", err)
	}
	return time.Duration(after.Nano() - before.Nano()), nil
}
