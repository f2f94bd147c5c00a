package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/tables"
)

// Datapath is the loaded programs with their tables. Its methods may be called from any goroutine, except those that say
// otherwise.
type Datapath struct {
	*tables.Tables

	opts Options
	log  *slog.Logger
	objs objects

	mu       sync.Mutex
	hooks    map[int]*Hook
	programs programs
	xdp      map[int]xdpLink
	others   []link.Link
	pins     *pins // nil: nothing is pinned
	nat      natOnLo
	closed   bool
}

// objects are all maps, and the programs that each node needs.
type objects struct {
	bpf.CMaps
	Egress      *ebpf.Program `ebpf:"egress"`
	Ingress     *ebpf.Program `ebpf:"ingress"`
	Client      *ebpf.Program `ebpf:"http2_client"`
	Reject      *ebpf.Program `ebpf:"http2_reject"`
	Backend     *ebpf.Program `ebpf:"http2_backend"`
	Kept        *ebpf.Program `ebpf:"http2_kept"`
	Sweep       *ebpf.Program `ebpf:"sweep"`
	Unreachable *ebpf.Program `ebpf:"unreachable"`
}

func (o *objects) close() error {
	errs := []error{o.CMaps.Close()}
	for _, p := range []*ebpf.Program{o.Egress, o.Ingress, o.Client, o.Backend, o.Kept, o.Reject, o.Sweep, o.Unreachable} {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Load loads the programs. With Options.PinPath it adopts the maps that a former agent pinned there, if their layout is the
// same; Adopted then returns true. The error names the features that the kernel lacks and the rights that the process
// lacks.
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
		"http2_connections": opts.Flows / 2, "streams": opts.Flows,
		"kept": max(opts.Flows/64, 256), "nat_flows": max(opts.Flows/32, 1024),
		"statuses": opts.Circuits * 8, "events": opts.Ring,
	}
	for name, n := range sizes {
		spec.Maps[name].MaxEntries = uint32(n)
	}
	d := &Datapath{
		opts: opts, log: opts.Logger, hooks: map[int]*Hook{}, xdp: map[int]xdpLink{}, programs: programs{},
		nat: natOnLo{backends: map[tables.Backend]bool{}},
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
	if err := d.putStages(); err != nil {
		return err
	}
	if d.Tables, err = tables.Open(d.objs.CMaps, d.opts.Flows); err != nil {
		return err
	}
	for _, b := range d.AdoptedBackends() {
		d.nat.note(b.Backend, onThisHost(b.Backend, b.Flags))
	}
	return nil
}

// putStages makes the stages callable. Those of a former agent that has the same pins are replaced.
func (d *Datapath) putStages() error {
	for index, p := range map[bpf.CStageIndex]*ebpf.Program{
		bpf.CStageIndexSTAGE_CLIENT_HTTP2: d.objs.Client, bpf.CStageIndexSTAGE_BACKEND_HTTP2: d.objs.Backend,
		bpf.CStageIndexSTAGE_KEPT_HTTP2: d.objs.Kept, bpf.CStageIndexSTAGE_REJECT_HTTP2: d.objs.Reject,
	} {
		if err := d.objs.Stages.Put(uint32(index), p); err != nil {
			return fmt.Errorf("put program %s in the map stages: %w", p, err)
		}
	}
	return nil
}

// Close detaches programs that are not pinned and frees all other resources. Calling it again does nothing. With
// Options.PinPath the programs stay attached without this process, and reject clients until the lease expires: see Detach.
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
		errs = append(errs, d.pins.closeLink(l.Link, true))
	}
	for _, l := range d.others {
		errs = append(errs, d.pins.closeLink(l, true))
	}
	if d.Tables != nil {
		errs = append(errs, d.Tables.Close())
	}
	errs = append(errs, d.objs.close(), d.programs.close(), d.pins.close())
	return errors.Join(errs...)
}
