package view

import "time"

// bounds of Histogram, upper ones included.
var bounds = [...]time.Duration{
	20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, time.Second,
}

// Histogram counts durations. The zero value is empty.
type Histogram struct {
	Buckets [len(bounds) + 1]uint64 // the last has no bound
	Sum     time.Duration
}

// Bounds returns the upper bounds of all buckets but the last.
func Bounds() []time.Duration { return bounds[:] }

// Observe counts one duration; a negative one is taken as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.Buckets[i]++
	h.Sum += d
}
