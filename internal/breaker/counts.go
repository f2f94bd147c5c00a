package breaker

import (
	"math"
	"math/bits"
	"time"
)

// maxSlow is the number of different slow thresholds that one policy may name, outcome.slow included.
const maxSlow = 8

// maxStreaks is the number of different lists of classes that consecutiveFailures of one policy may name.
const maxStreaks = 8

// sample is one outcome as a window stores it.
type sample struct {
	latency uint64 // ns, 0 unless timed
	flags   uint16 // sampleFailure, sampleTimed, sampleSlow << slot
}

const (
	sampleFailure = 1 << iota
	sampleTimed
	sampleSlow // slot 0; slot i is sampleSlow << i
)

// counts are the sums over a window. They may wrap meanwhile, and are right again when the outcomes that wrapped them are
// subtracted.
type counts struct {
	total, failures, timed uint64
	high, low              uint64 // duration in ns
	slow                   [maxSlow]uint64
}

// add adds n outcomes equal to s; with n = -m it subtracts m.
func (c *counts) add(s sample, n uint64) {
	c.total += n
	if s.flags&sampleFailure != 0 {
		c.failures += n
	}
	for slot, f := 0, s.flags/sampleSlow; f != 0; slot, f = slot+1, f>>1 {
		if f&1 != 0 {
			c.slow[slot] += n
		}
	}
	if s.flags&sampleTimed != 0 {
		c.timed += n
		high, low := bits.Mul64(s.latency, n)
		if int64(n) < 0 {
			high -= s.latency // n stands for n - 2^64
		}
		c.addDuration(high, low)
	}
}

// addOne is add(s, 1) without the multiplication.
func (c *counts) addOne(s sample) {
	c.total++
	if s.flags&sampleFailure != 0 {
		c.failures++
	}
	if s.flags&sampleTimed != 0 {
		c.timed++
		var carry uint64
		c.low, carry = bits.Add64(c.low, s.latency, 0)
		c.high += carry
	}
	for slot, f := 0, s.flags/sampleSlow; f != 0; slot, f = slot+1, f>>1 {
		if f&1 != 0 {
			c.slow[slot]++
		}
	}
}

// takeOne subtracts one outcome equal to s.
func (c *counts) takeOne(s sample) {
	c.total--
	if s.flags&sampleFailure != 0 {
		c.failures--
	}
	if s.flags&sampleTimed != 0 {
		c.timed--
		var borrow uint64
		c.low, borrow = bits.Sub64(c.low, s.latency, 0)
		c.high -= borrow
	}
	for slot, f := 0, s.flags/sampleSlow; f != 0; slot, f = slot+1, f>>1 {
		if f&1 != 0 {
			c.slow[slot]--
		}
	}
}

func (c *counts) addDuration(high, low uint64) {
	var carry uint64
	c.low, carry = bits.Add64(c.low, low, 0)
	c.high += high + carry
}

// meanAtLeast reports whether the mean latency is >= d, exactly; false when nothing was timed.
func (c *counts) meanAtLeast(d time.Duration) bool {
	if c.timed == 0 {
		return false
	}
	high, low := bits.Mul64(uint64(d), c.timed)
	return c.high > high || c.high == high && c.low >= low
}

func (c *counts) metric() Metric {
	return Metric{Total: c.total, Failures: c.failures, Slow: c.slow[0], Timed: c.timed,
		durationHigh: c.high, durationLow: c.low}
}

// FailureRate returns failures / total, or false when the window is empty.
func (m Metric) FailureRate() (float64, bool) { return rate(m.Failures, m.Total) }

// SlowRate returns slow / total, or false when the window is empty.
func (m Metric) SlowRate() (float64, bool) { return rate(m.Slow, m.Total) }

func rate(part, total uint64) (float64, bool) {
	if total == 0 {
		return 0, false
	}
	return float64(part) / float64(total), true
}

// TotalMillis returns the sum of all known latencies in milliseconds.
func (m Metric) TotalMillis() float64 { return m.nanos() / 1e6 }

// AvgMillis returns the mean of the known latencies in milliseconds, or false when there are none.
func (m Metric) AvgMillis() (float64, bool) {
	if m.Timed == 0 {
		return 0, false
	}
	return m.nanos() / (float64(m.Timed) * 1e6), true
}

// TotalDuration returns the sum of all known latencies; the longest Duration (292 years) when it is longer.
func (m Metric) TotalDuration() time.Duration {
	if m.durationHigh != 0 || m.durationLow > math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(m.durationLow)
}

// AvgDuration returns the mean of the known latencies, rounded down, or false when there are none.
func (m Metric) AvgDuration() (time.Duration, bool) {
	if m.Timed == 0 {
		return 0, false
	}
	mean, _ := bits.Div64(m.durationHigh%m.Timed, m.durationLow, m.Timed)
	return time.Duration(mean), true
}

func (m Metric) nanos() float64 {
	return math.Ldexp(float64(m.durationHigh), 64) + float64(m.durationLow)
}
