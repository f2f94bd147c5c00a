package breaker

import (
	"math"
	"math/bits"
)

// field holds sums over the backends with so many calls, kept up to date so that comparing one backend with all does not
// visit each. Rates are whole numbers, so that there is no rounding drift.
type field struct {
	calls     uint64 // minCalls of a successRateOutlier
	hosts     uint64
	sum       uint64 // of the rates, in rateUnits
	high, low uint64 // of their squares
}

const (
	rateUnit = 1 << 40
	// doubt is more than what rounding to rateUnits can do to a threshold, at up to 1000 standard deviations.
	doubt = 1e-9
)

// share returns a circuit's value in a field: its success rate in rateUnits, plus one; 0 when it has too few calls.
func share(c *counts, calls uint64) uint64 {
	if c.total < calls {
		return 0
	}
	return uint64(math.Round(successRate(c)*rateUnit)) + 1
}

func successRate(c *counts) float64 { return float64(c.total-c.failures) / float64(c.total) }

func (f *field) add(share uint64) {
	if share == 0 {
		return
	}
	f.hosts++
	f.sum += share - 1
	high, low := bits.Mul64(share-1, share-1)
	var carry uint64
	f.low, carry = bits.Add64(f.low, low, 0)
	f.high += high + carry
}

func (f *field) take(share uint64) {
	if share == 0 {
		return
	}
	f.hosts--
	f.sum -= share - 1
	high, low := bits.Mul64(share-1, share-1)
	var borrow uint64
	f.low, borrow = bits.Sub64(f.low, low, 0)
	f.high -= high + borrow
}

// threshold returns mean - stdev x deviation of the rates, to within doubt.
func (f *field) threshold(stdev float64) float64 {
	// variance x hosts^2 = hosts x sum of squares - sum^2, exactly
	high, low := bits.Mul64(f.low, f.hosts)
	high += f.high * f.hosts
	subtractHigh, subtractLow := bits.Mul64(f.sum, f.sum)
	low, borrow := bits.Sub64(low, subtractLow, 0)
	high -= subtractHigh + borrow
	deviation := math.Sqrt(math.Ldexp(float64(high), 64) + float64(low))
	return (float64(f.sum) - stdev*deviation) / (float64(f.hosts) * rateUnit)
}

// count updates the fields from the circuit's window.
func (c *Circuit) count() {
	for i := range c.group.fields {
		f := &c.group.fields[i]
		if now := share(&c.window.counts, f.calls); now != c.shares[i] {
			f.take(c.shares[i])
			f.add(now)
			c.shares[i] = now
		}
	}
}

// uncount removes the circuit from the fields.
func (c *Circuit) uncount() {
	for i := range c.shares {
		c.group.fields[i].take(c.shares[i])
		c.shares[i] = 0
	}
}

// recount computes the fields again.
func (g *Group) recount() {
	g.fields = nil
	for _, calls := range g.plan.fields {
		g.fields = append(g.fields, field{calls: calls})
	}
	g.fieldsEnd = math.MinInt64
	for _, c := range g.circuits {
		c.shares = make([]uint64, len(g.fields))
		c.count()
	}
}

// refresh removes from the windows of all circuits the outcomes that are too old at now. None are before the end of a
// bucket.
func (g *Group) refresh(now Time) {
	if now < g.fieldsEnd {
		return
	}
	g.fieldsEnd = Never
	for _, c := range g.circuits {
		c.window.expire(&g.plan.shape, now)
		c.count()
		if g.plan.shape.kind == WindowTime {
			g.fieldsEnd = c.window.end
		}
	}
}

// isOutlier reports whether the success rate of c is below the threshold of a successRateOutlier.
func (g *Group) isOutlier(c *Circuit, l *leaf, now Time) bool {
	own := &c.window.counts
	if own.failures == 0 || own.total < l.n {
		return false // no rate is below a mean of rates if it is 1
	}
	g.refresh(now)
	f := g.fields[l.slot]
	f.take(c.shares[l.slot])
	f.add(share(own, l.n)) // not the same during a trial
	if f.hosts < uint64(l.hosts) || successRate(own) > f.threshold(l.number)+doubt {
		return false
	}
	rate, threshold, ok := g.outlier(c, l, now)
	return ok && rate < threshold
}

// outlier compares the success rate of a backend with those of the group's backends that have l.n calls, exactly. ok is
// false when it has not as many itself, or there are fewer than l.hosts such backends.
func (g *Group) outlier(c *Circuit, l *leaf, now Time) (rate, threshold float64, ok bool) {
	g.refresh(now)
	own := &c.window.counts
	if own.total < l.n {
		return 0, 0, false
	}
	rate = successRate(own)
	// Differences to the own rate, so that equal rates differ by exactly 0.
	hosts, sum, squares := 0, 0.0, 0.0
	for _, other := range g.circuits {
		if w := &other.window.counts; w.total >= l.n {
			hosts++
			sum += successRate(w) - rate
		}
	}
	if hosts < l.hosts {
		return 0, 0, false
	}
	mean := sum / float64(hosts)
	for _, other := range g.circuits {
		if w := &other.window.counts; w.total >= l.n {
			d := successRate(w) - rate - mean
			squares += d * d
		}
	}
	return rate, rate + (mean - l.number*math.Sqrt(squares/float64(hosts))), true
}
