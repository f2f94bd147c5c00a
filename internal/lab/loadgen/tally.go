package loadgen

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Tally counts results. The zero value is ready; its methods may be called concurrently.
type Tally struct {
	mu     sync.Mutex
	counts Counts
}

// Counts are the counts of a Tally.
type Counts struct {
	Requests   int
	ByOutcome  map[string]int                    // by Result.Outcome: statuses in digits, and classes
	ByTarget   map[netip.AddrPort]map[string]int // the same for each target
	FromKernel map[string]int                    // answers of the kernel by reason
	Latencies  []time.Duration                   // of answers of backends
	Kernel     []time.Duration                   // of answers of the kernel
	Connects   int                               // connections opened, or tried
}

// Done adds a result; it fits Load.Done.
func (t *Tally) Done(target netip.AddrPort, r Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counts
	if c.ByOutcome == nil {
		*c = Counts{ByOutcome: map[string]int{}, ByTarget: map[netip.AddrPort]map[string]int{}, FromKernel: map[string]int{}}
	}
	if c.ByTarget[target] == nil {
		c.ByTarget[target] = map[string]int{}
	}
	c.Requests++
	c.ByOutcome[r.Outcome()]++
	c.ByTarget[target][r.Outcome()]++
	if !r.Reused {
		c.Connects++
	}
	if reason, ok := r.FromKernel(); ok {
		c.FromKernel[reason]++
		c.Kernel = append(c.Kernel, r.Latency)
	} else if r.Status != 0 {
		c.Latencies = append(c.Latencies, r.Latency)
	}
}

// Counts returns a copy of all counts.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.ByOutcome, c.FromKernel = maps.Clone(c.ByOutcome), maps.Clone(c.FromKernel)
	c.ByTarget = make(map[netip.AddrPort]map[string]int, len(t.counts.ByTarget))
	for target, counts := range t.counts.ByTarget {
		c.ByTarget[target] = maps.Clone(counts)
	}
	c.Latencies, c.Kernel = slices.Clone(c.Latencies), slices.Clone(c.Kernel)
	return c
}

// Percentile returns the smallest of the samples that at least p percent (0..100) do not exceed; 0 without samples. It
// sorts the samples.
func Percentile(samples []time.Duration, p float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	rank := int(math.Ceil(float64(len(samples))*p/100)) - 1
	return samples[min(max(rank, 0), len(samples)-1)]
}
