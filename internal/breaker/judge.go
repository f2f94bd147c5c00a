package breaker

import "math"

// holds reports whether the program trips c at now. The window must have been expired at now.
func (p *program) holds(c *Circuit, now Time) bool {
	if len(p.leaves) == 0 {
		return false
	}
	i := int16(0)
	for i >= 0 {
		l := &p.leaves[i]
		if l.holds(c, now) {
			i = l.yes
		} else {
			i = l.no
		}
	}
	return i == endTrue
}

func (l *leaf) holds(c *Circuit, now Time) bool {
	w := &c.window
	switch l.kind {
	case TripMinCalls:
		return w.total >= l.n
	case TripFailureRate:
		return w.failures > 0 && float64(w.failures)/float64(w.total) >= l.number
	case TripSlowRate:
		return w.slow[l.slot] > 0 && float64(w.slow[l.slot])/float64(w.total) >= l.number
	case TripFailureCount:
		return w.failures >= l.n
	case TripConsecutiveFailures:
		return c.streakOf(l.slot) >= l.n
	case TripAvgLatency:
		return w.meanAtLeast(l.over)
	case TripSuccessRateOutlier:
		return c.group.isOutlier(c, l, now)
	case TripPendingAge:
		return c.pendingKnown && now.Sub(c.pending) >= l.over
	case TripMinClients:
		return uint64(c.failingClients()) >= l.n
	case TripState:
		return c.state == l.state
	}
	return false
}

// numbers returns the values that the leaf compares: durations in seconds.
func (l *leaf) numbers(c *Circuit, now Time) (value, threshold float64) {
	w := &c.window
	switch l.kind {
	case TripMinCalls:
		return float64(w.total), float64(l.n)
	case TripFailureRate:
		value, _ = rate(w.failures, w.total)
		return value, l.number
	case TripSlowRate:
		value, _ = rate(w.slow[l.slot], w.total)
		return value, l.number
	case TripFailureCount:
		return float64(w.failures), float64(l.n)
	case TripConsecutiveFailures:
		return float64(c.streakOf(l.slot)), float64(l.n)
	case TripAvgLatency:
		millis, _ := w.metric().AvgMillis()
		return millis / 1000, l.over.Seconds()
	case TripSuccessRateOutlier:
		value, threshold, _ = c.group.outlier(c, l, now)
		return value, threshold
	case TripPendingAge:
		return now.Sub(c.pending).Seconds(), l.over.Seconds()
	case TripMinClients:
		return float64(c.failingClients()), float64(l.n)
	}
	return math.NaN(), math.NaN()
}

// explain returns the tripper that caused a trip and the values that it compared.
func (p *program) explain(c *Circuit, now Time) (r Reason, value, threshold float64) {
	n := p.blame(&p.tree, c, now)
	r = TripReason(n.kind)
	if n.leaf < 0 {
		return r, math.NaN(), math.NaN()
	}
	value, threshold = p.leaves[n.leaf].numbers(c, now)
	return r, value, threshold
}

// blame returns the leaf that caused a true node: below an any the first true child, below an all the last child that is
// none of minCalls, minClients, state and not.
func (p *program) blame(n *tripNode, c *Circuit, now Time) *tripNode {
	switch n.kind {
	case TripAny:
		for i := range n.children {
			if p.nodeHolds(&n.children[i], c, now) {
				return p.blame(&n.children[i], c, now)
			}
		}
	case TripAll:
		last := len(n.children) - 1
		for i := last; i >= 0; i-- {
			switch n.children[i].kind {
			case TripMinCalls, TripMinClients, TripState, TripNot:
				continue
			}
			last = i
			break
		}
		return p.blame(&n.children[last], c, now)
	}
	return n
}

func (p *program) nodeHolds(n *tripNode, c *Circuit, now Time) bool {
	switch n.kind {
	case TripAny:
		for i := range n.children {
			if p.nodeHolds(&n.children[i], c, now) {
				return true
			}
		}
		return false
	case TripAll:
		for i := range n.children {
			if !p.nodeHolds(&n.children[i], c, now) {
				return false
			}
		}
		return true
	case TripNot:
		return !p.nodeHolds(&n.children[0], c, now)
	}
	return p.leaves[n.leaf].holds(c, now)
}
