package breaker

// windowShape is the part of the settings that the layout of a window depends on.
type windowShape struct {
	kind    WindowType
	bucket  int64 // time: ns
	buckets int64 // time: how many, the current one included
	size    uint64
	slots   int // slow thresholds in use
}

// window holds the recent outcomes of one circuit. It allocates no memory until an outcome is recorded, and grows with its
// content. Sums are kept up to date, so that the cost of reading does not depend on the size.
type window struct {
	counts
	end  Time   // time: end of the current bucket; nothing expires before
	seq  uint64 // count: outcomes recorded since it was cleared
	cur  int64  // time: number of the current bucket
	head uint32 // oldest entry of buckets or runs
	n    uint32 // entries in use

	buckets []bucket // time: a ring of those in which something was recorded
	extra   []uint32 // time: slow counts of slots 1 and up, slots-1 for each entry of buckets
	runs    []run    // count: a ring of equal neighbours
}

// add records n outcomes equal to s at now. It reads only the fields of s that the window stores.
func (w *window) add(shape *windowShape, now Time, s sample, n uint64) {
	if shape.kind == WindowCount {
		w.addRun(shape, s, n)
		return
	}
	w.expire(shape, now)
	w.addBucket(shape, s, n)
}

// expire removes outcomes that are too old at now. A count window never expires.
func (w *window) expire(shape *windowShape, now Time) {
	if now >= w.end && shape.kind == WindowTime {
		w.rotate(shape, now)
	}
}

// clear removes all outcomes and keeps the memory.
func (w *window) clear() {
	w.counts = counts{}
	w.seq, w.head, w.n = 0, 0, 0
}

// ringGrowth returns the length of a ring that is full at length n and will, as a rule, not need more than most.
func ringGrowth(n int, most uint64) int {
	next := max(2*n, 4)
	if uint64(n) < most && uint64(next) > most {
		next = int(most)
	}
	return next
}
