package loader

import "log/slog"

// Options set the sizes of the kernel's tables, and how programs are attached. The default replaces zero sizes.
type Options struct {
	Circuits int // verdicts and totals; default 16384
	Policies int // compiled policies, two for each while it is being replaced; default 2048
	Answers  int // distinct rendered answers, up to 18 for each policy; default 12288
	Flows    int // followed connections; default 262144
	Ring     int // bytes of the event ring, a power of two and a multiple of the page; default 4 MiB

	// PinPath is a directory of a BPF file system under which maps and links survive the agent. Empty: nothing is pinned.
	PinPath string
	// Clsact attaches with clsact filters even where the kernel has tcx.
	Clsact bool
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Circuits, 16384)
	def(&o.Policies, 2048)
	def(&o.Answers, 12288)
	def(&o.Flows, 262144)
	def(&o.Ring, 4<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
