package verdict

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// floor is the least that news from the kernel and an answer to it can cost: a program writes the time into a ring
// buffer, a sleeping reader wakes up, looks at the clock, and writes into a map.
type floor struct {
	ring    *ebpf.Map
	program *ebpf.Program
	target  *ebpf.Map
	reader  *ringbuf.Reader
}

func openFloor() (f *floor, err error) {
	f = &floor{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("measure the floor: %w", err), f.close())
		}
	}()
	if f.ring, err = ebpf.NewMap(&ebpf.MapSpec{Name: "bench_ring", Type: ebpf.RingBuf, MaxEntries: 1 << 16}); err != nil {
		return f, err
	}
	if f.target, err = ebpf.NewMap(&ebpf.MapSpec{Name: "bench_target", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 16}); err != nil {
		return f, err
	}
	f.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_tell", Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{
			asm.FnKtimeGetNs.Call(),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, f.ring.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.Mov.Imm(asm.R3, 8),
			asm.Mov.Imm(asm.R4, unix.BPF_RB_FORCE_WAKEUP),
			asm.FnRingbufOutput.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		return f, err
	}
	f.reader, err = ringbuf.NewReader(f.ring)
	return f, err
}

func (f *floor) close() error {
	var errs []error
	if f.reader != nil {
		errs = append(errs, f.reader.Close())
	}
	if f.program != nil {
		errs = append(errs, f.program.Close())
	}
	if f.target != nil {
		errs = append(errs, f.target.Close())
	}
	if f.ring != nil {
		errs = append(errs, f.ring.Close())
	}
	return errors.Join(errs...)
}

// sample takes n samples, a pause before each: from the program's clock to the reader's, and the time of a map write.
func (f *floor) sample(n int, pause func()) (wake, write []float64, err error) {
	type woken struct {
		wake, write float64
		err         error
	}
	samples := make(chan woken)
	f.reader.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		var record ringbuf.Record
		for i := range n {
			err := f.reader.ReadInto(&record)
			now := monotonic()
			if err != nil {
				samples <- woken{err: err}
				return
			}
			began := time.Now()
			err = f.target.Put(uint32(i%16), uint64(i))
			took := time.Since(began)
			told := int64(0)
			for b := range 8 {
				told |= int64(record.RawSample[b]) << (8 * b)
			}
			samples <- woken{float64(now-told) / 1e3, float64(took) / 1e3, err}
		}
	}()
	packet := make([]byte, 64)
	for range n {
		pause()
		if _, err := f.program.Run(&ebpf.RunOptions{Data: packet}); err != nil {
			return nil, nil, fmt.Errorf("run the program: %w", err)
		}
		s := <-samples
		if s.err != nil {
			return nil, nil, fmt.Errorf("read the ring: %w", s.err)
		}
		wake, write = append(wake, s.wake), append(write, s.write)
	}
	return wake, write, nil
}

// monotonic returns the clock of bpf_ktime_get_ns.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail for this clock
	return t.Nano()
}
