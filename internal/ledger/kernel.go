package ledger

// Kernel is what a Book needs of the programs. Circuits are named by their index in the kernel's table.
type Kernel interface {
	// Published returns the verdict in force.
	Published(circuit int) Verdict
	// SetVerdict puts a verdict in force, and reports whether its counts begin at 0. They go on when the one in force has
	// the same kind and generation, and when the closed one of the next generation follows an open one.
	SetVerdict(circuit int, v Verdict) (anew bool)
	// Progress returns the counts of the verdict in force.
	Progress(circuit int) Progress
	// Judged returns the first two counts of Progress alone.
	Judged(circuit int) (outcomes, events uint64)
	// LostEvents returns how many events found the ring full, ever.
	LostEvents() uint64
	// EventsWaiting returns how many events are in the ring.
	EventsWaiting() int
}
