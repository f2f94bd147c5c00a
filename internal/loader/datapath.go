package loader

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Datapath is the loaded programs and maps. Its methods may be called from any goroutine, except those that say
// otherwise.
type Datapath struct {
	opts Options
	log  *slog.Logger
	objs objects

	node     *shared[bpf.CNodeState]
	policies *shared[bpf.CPolicy]
	answers  *shared[bpf.CAnswer]
	targets  *shared[bpf.CTarget] // a target's circuit has the same index
	circuits *shared[circuit]
	events   *ringbuf.Reader

	mu        sync.Mutex
	hooks     map[int]*Hook
	ports     map[uint16]int // backends and CIDRs on each port
	known     map[bpf.CEndpoint]bool
	networks  map[bpf.CCidrKey]uint16
	programs  early
	xdp       map[int]xdpLink
	others    []link.Link
	inherited map[bpf.CEndpoint]int // backends of a former agent, until they are put or removed
	pins      *pins                 // nil: nothing is pinned
	nat       natOnLo
	adopted   bool
	closed    bool
}

// objects are all maps, and the programs that every kernel here has.
type objects struct {
	bpf.CMaps
	Egress      *ebpf.Program `ebpf:"egress"`
	EgressL3    *ebpf.Program `ebpf:"egress_l3"`
	Ingress     *ebpf.Program `ebpf:"ingress"`
	IngressL3   *ebpf.Program `ebpf:"ingress_l3"`
	Loopback    *ebpf.Program `ebpf:"loopback"`
	Sweep       *ebpf.Program `ebpf:"sweep"`
	Unreachable *ebpf.Program `ebpf:"unreachable"`
}

func (o *objects) close() error {
	errs := []error{o.CMaps.Close()}
	for _, p := range []*ebpf.Program{o.Egress, o.EgressL3, o.Ingress, o.IngressL3, o.Loopback, o.Sweep, o.Unreachable} {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Load loads the programs. With Options.PinPath it takes over the maps that a former agent left there, provided that
// their layout is the same; Adopted then says true. The error names what the kernel or the process lacks.
func Load(opts Options) (*Datapath, error) {
	opts = opts.withDefaults()
	if err := Supported(); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	spec, err := bpf.LoadC()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	sizes := map[string]int{
		"policies": opts.Policies, "answers": opts.Answers, "targets": opts.Circuits, "circuits": opts.Circuits,
		"backends": opts.Circuits * 2, "unreachables": opts.Circuits * 2, "flows": opts.Flows * 2, "answered": max(opts.Flows/4, 1024),
		"dialled":  max(opts.Flows/32, 1024),
		"statuses": opts.Circuits * 8, "events": opts.Ring,
	}
	for name, n := range sizes {
		spec.Maps[name].MaxEntries = uint32(n)
	}
	d := &Datapath{
		opts: opts, log: opts.Logger, hooks: map[int]*Hook{}, ports: map[uint16]int{},
		known: map[bpf.CEndpoint]bool{}, networks: map[bpf.CCidrKey]uint16{}, inherited: map[bpf.CEndpoint]int{}, xdp: map[int]xdpLink{},
		nat: natOnLo{backends: map[bpf.CEndpoint]bool{}},
	}
	if err := d.load(spec); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) load(spec *ebpf.CollectionSpec) error {
	if err := d.loadObjects(spec); err != nil {
		return err
	}
	var err error
	if d.node, err = mapShared[bpf.CNodeState](d.objs.Node); err != nil {
		return err
	}
	if d.policies, err = mapShared[bpf.CPolicy](d.objs.Policies); err != nil {
		return err
	}
	if d.answers, err = mapShared[bpf.CAnswer](d.objs.Answers); err != nil {
		return err
	}
	if d.targets, err = mapShared[bpf.CTarget](d.objs.Targets); err != nil {
		return err
	}
	if d.circuits, err = mapShared[circuit](d.objs.Circuits); err != nil {
		return err
	}
	if d.events, err = ringbuf.NewReader(d.objs.Events); err != nil {
		return fmt.Errorf("open the event ring: %w", err)
	}
	n := &d.node.vals[0]
	d.adopted = n.Secret != [2]uint64{}
	if !d.adopted {
		var secret [16]byte
		if _, err := rand.Read(secret[:]); err != nil {
			return fmt.Errorf("draw a key for sequence numbers: %w", err)
		}
		n.Secret[0] = binary.NativeEndian.Uint64(secret[:8])
		n.Secret[1] = binary.NativeEndian.Uint64(secret[8:])
	}
	atomic.StoreUint64(&n.FlowMax, uint64(d.opts.Flows))
	atomic.StoreUint64(&n.FlowReserve, uint64(d.opts.Flows/8))
	return d.adoptBackends()
}

// Now returns the clock of the programs (CLOCK_MONOTONIC) in nanoseconds.
func Now() int64 {
	var ts unix.Timespec
	// It cannot fail for this clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// RenewLease lets verdicts reject clients until the given moment. When nobody renews it all circuits admit.
func (d *Datapath) RenewLease(until int64) {
	atomic.StoreUint64(&d.node.vals[0].LeaseUntil, uint64(until))
}

// SetTrace makes the programs send every outcome through the ring, or only those that the agent needs.
func (d *Datapath) SetTrace(on bool) {
	d.setFlag(bpf.CNodeFlagNODE_TRACE, on)
}

func (d *Datapath) setFlag(flag bpf.CNodeFlag, on bool) {
	p := &d.node.vals[0].Flags
	for {
		old := atomic.LoadUint32(p)
		want := old &^ uint32(flag)
		if on {
			want |= uint32(flag)
		}
		if atomic.CompareAndSwapUint32(p, old, want) {
			return
		}
	}
}

// SetUplinks names the interfaces through which remote traffic enters the node.
func (d *Datapath) SetUplinks(ifindexes []int) error {
	want := map[uint32]bool{}
	for _, i := range ifindexes {
		want[uint32(i)] = true
	}
	return setKeys(d.objs.Uplinks, want)
}

// SetPodsCgroup names the cgroup (v2) under which all pods run, by its id and its depth (the root's is 0). Host
// processes outside it are the node's own. An id of 0 says that there is none.
func (d *Datapath) SetPodsCgroup(id uint64, level int) {
	n := &d.node.vals[0]
	atomic.StoreUint32(&n.KubepodsLevel, uint32(level))
	atomic.StoreUint64(&n.Kubepods, id)
}

// SweepResult is what one sweep saw.
type SweepResult struct {
	Flows  int           // followed connections
	Number int64         // of the sweep, for Pending
	Took   time.Duration // of a CPU: what others did on it meanwhile does not count
	Due    int64         // when the first of what is pending now will have timed out; 0: nothing will
}

// Sweep ends requests that hang, SYNs that nobody answers, and connections that were silent for longer than idle. One
// goroutine at a time.
func (d *Datapath) Sweep(idle time.Duration) (SweepResult, error) {
	return d.sweep(bpf.CSweepArgs{Idle: uint64(idle)})
}

// ForgetInterface ends the connections whose packets came or went through an interface that is gone: nobody will see
// their end. It is a sweep.
func (d *Datapath) ForgetInterface(ifindex int, idle time.Duration) (SweepResult, error) {
	return d.sweep(bpf.CSweepArgs{Idle: uint64(idle), Gone: uint64(ifindex)})
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
		Number: int64(atomic.LoadUint64(&d.node.vals[0].Sweeps)),
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

// Close detaches what is not pinned and frees everything else. Calling it again does nothing. With Options.PinPath the
// programs go on without this process, and reject clients until the lease runs out: see Detach.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for _, h := range d.hooks {
		errs = append(errs, d.releaseHook(h, d.pins != nil))
	}
	for _, l := range d.xdp {
		errs = append(errs, d.pins.letGo(l.Link, true))
	}
	for _, l := range d.others {
		errs = append(errs, d.pins.letGo(l, true))
	}
	if d.events != nil {
		errs = append(errs, d.events.Close())
	}
	errs = append(errs, d.node.close(), d.policies.close(), d.answers.close(), d.targets.close(), d.circuits.close(), d.objs.close(), d.programs.close(),
		d.pins.close())
	return errors.Join(errs...)
}

func addr16(a netip.Addr) [16]byte { return a.As16() }

// be16 is a port as it stands in a packet.
func be16(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
