package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// floor is the program, its ring, and the map that is written.
type floor struct {
	ring    *ebpf.Map
	target  *ebpf.Map
	program *ebpf.Program
	hook    link.Link
	reader  *ringbuf.Reader
}

func openFloor(ifindex, longer int) (f *floor, err error) {
	f = &floor{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("ring: %w", err), f.close())
		}
	}()
	if f.ring, err = ebpf.NewMap(&ebpf.MapSpec{Name: "bench_ring", Type: ebpf.RingBuf, MaxEntries: 1 << 16}); err != nil {
		return f, err
	}
	if f.target, err = ebpf.NewMap(&ebpf.MapSpec{Name: "bench_target", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 16}); err != nil {
		return f, err
	}
	const skbLen = 0 // offset of __sk_buff.len
	f.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_tell", Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, skbLen, asm.Word),
			asm.JLE.Imm(asm.R2, int32(longer), "next"),
			asm.FnKtimeGetNs.Call(),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, f.ring.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.Mov.Imm(asm.R3, 8),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnRingbufOutput.Call(),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("next"), // TCX_NEXT
			asm.Return(),
		},
	})
	if err != nil {
		return f, err
	}
	if f.reader, err = ringbuf.NewReader(f.ring); err != nil {
		return f, err
	}
	f.hook, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: f.program, Attach: ebpf.AttachTCXIngress})
	return f, err
}

func (f *floor) close() error {
	var errs []error
	if f.hook != nil {
		errs = append(errs, f.hook.Close())
	}
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

// sample reads n times from the ring.
func (f *floor) sample(n int) (s Samples, err error) {
	f.reader.SetDeadline(time.Now().Add(patience))
	var record ringbuf.Record
	for i := range n {
		if err := f.reader.ReadInto(&record); err != nil {
			return s, fmt.Errorf("ring: read sample %d: %w", i, err)
		}
		woken := monotonic()
		err := f.target.Put(uint32(i%16), uint64(i))
		wrote := monotonic()
		if err != nil {
			return s, fmt.Errorf("ring: write: %w", err)
		}
		told := int64(binary.NativeEndian.Uint64(record.RawSample))
		s.Wake = append(s.Wake, float64(woken-told)/1e3)
		s.Write = append(s.Write, float64(wrote-woken)/1e3)
	}
	return s, nil
}

// monotonic returns the clock of bpf_ktime_get_ns.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail for this clock
	return t.Nano()
}
