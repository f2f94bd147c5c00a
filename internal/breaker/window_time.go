package breaker

import "math"

// bucket holds what was recorded in [index x bucket, (index+1) x bucket). Neighbours may share an index: a bucket whose
// numbers would not fit is continued in another.
type bucket struct {
	index    int64
	duration uint64 // ns
	total    uint32
	failures uint32
	timed    uint32
	slow     uint32 // slot 0
}

// rotate makes the bucket of now the current one and drops those that have left the window.
func (w *window) rotate(shape *windowShape, now Time) {
	w.cur = int64(now) / shape.bucket
	if int64(now)%shape.bucket < 0 {
		w.cur--
	}
	w.end = Time((w.cur + 1) * shape.bucket)
	for w.n > 0 && w.buckets[w.head].index <= w.cur-shape.buckets {
		w.dropBucket(shape)
	}
}

func (w *window) dropBucket(shape *windowShape) {
	b := &w.buckets[w.head]
	w.total -= uint64(b.total)
	w.failures -= uint64(b.failures)
	w.timed -= uint64(b.timed)
	w.slow[0] -= uint64(b.slow)
	if w.low < b.duration {
		w.high--
	}
	w.low -= b.duration
	for slot := 1; slot < shape.slots; slot++ {
		w.slow[slot] -= uint64(w.extra[int(w.head)*(shape.slots-1)+slot-1])
	}
	w.n--
	if w.head++; int(w.head) == len(w.buckets) {
		w.head = 0
	}
}

// addBucket adds to the current bucket, in as many pieces as it takes.
func (w *window) addBucket(shape *windowShape, s sample, n uint64) {
	if n == 1 {
		w.counts.addOne(s)
		w.lastBucket(shape, s, 1).add(w, shape, s, 1)
		return
	}
	w.counts.add(s, n)
	most := uint64(math.MaxUint32)
	if s.latency > 0 {
		most = min(most, max(1, math.MaxUint64/s.latency))
	}
	for n > 0 {
		k := min(n, most)
		w.lastBucket(shape, s, k).add(w, shape, s, k)
		n -= k
	}
}

// lastBucket returns the current bucket with room for n outcomes equal to s.
func (w *window) lastBucket(shape *windowShape, s sample, n uint64) *bucket {
	if w.n > 0 {
		b := &w.buckets[w.last()]
		if b.index == w.cur && uint64(b.total)+n <= math.MaxUint32 && b.duration <= math.MaxUint64-s.latency*n {
			return b
		}
	}
	if int(w.n) == len(w.buckets) {
		w.growBuckets(shape)
	}
	w.n++
	i := w.last()
	w.buckets[i] = bucket{index: w.cur}
	if x := shape.slots - 1; x > 0 {
		clear(w.extra[i*x : i*x+x])
	}
	return &w.buckets[i]
}

func (w *window) last() int {
	i := int(w.head) + int(w.n) - 1
	if i >= len(w.buckets) {
		i -= len(w.buckets)
	}
	return i
}

func (b *bucket) add(w *window, shape *windowShape, s sample, n uint64) {
	b.total += uint32(n)
	if s.flags&sampleFailure != 0 {
		b.failures += uint32(n)
	}
	if s.flags&sampleTimed != 0 {
		b.timed += uint32(n)
		b.duration += s.latency * n
	}
	if s.flags < sampleSlow {
		return
	}
	if s.flags&sampleSlow != 0 {
		b.slow += uint32(n)
	}
	x := shape.slots - 1
	for slot := 1; slot < shape.slots; slot++ {
		if s.flags&(sampleSlow<<slot) != 0 {
			w.extra[w.last()*x+slot-1] += uint32(n)
		}
	}
}

func (w *window) growBuckets(shape *windowShape) {
	old, x := len(w.buckets), shape.slots-1
	grown := make([]bucket, ringGrowth(old, uint64(shape.buckets)))
	k := copy(grown, w.buckets[w.head:])
	copy(grown[k:], w.buckets[:w.head])
	if x > 0 {
		extra := make([]uint32, len(grown)*x)
		k = copy(extra, w.extra[int(w.head)*x:])
		copy(extra[k:], w.extra[:int(w.head)*x])
		w.extra = extra
	}
	w.buckets, w.head = grown, 0
}
