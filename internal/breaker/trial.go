package breaker

// trial evaluates trippers after k more outcomes equal to s, without recording them. While it runs, the sums of the circuit
// are those after the present k; it restores them before it returns. It depends on evenness: over k from 1 to even(n), all
// added outcomes are equal, and so are all that leave the window. Sums are then linear in k, rates and means monotonic, and
// each leaf changes its value at most once.
type trial struct {
	circuit *Circuit
	program *program
	now     Time
	sample  sample
	result  Result
	leaving sample // count window, full: what leaves for each that comes
	full    bool
	client  bool // failing[0] is the client of these outcomes

	counts  counts
	seq     uint64
	streak  uint64
	streaks [maxStreaks]uint64
}

func newTrial(c *Circuit, p *program, now Time, o *Outcome, s sample) trial {
	w := &c.window
	t := trial{circuit: c, program: p, now: now, sample: s, result: o.Result, counts: w.counts, seq: w.seq, streak: c.streak}
	copy(t.streaks[:], c.streaks)
	shape := &c.group.plan.shape
	if shape.kind == WindowCount && w.total == shape.size {
		t.full, t.leaving = true, w.runs[w.head].sample()
	}
	t.client = shape.kind == WindowCount && s.flags&sampleFailure != 0 && o.Client.IsValid() && len(c.failing) > 0
	return t
}

// even returns how many of n outcomes, at least one, form an even step.
func (t *trial) even(n uint64) uint64 {
	w, shape := &t.circuit.window, &t.circuit.group.plan.shape
	if shape.kind == WindowCount {
		switch {
		case !t.full:
			n = min(n, shape.size-w.total)
		case w.n > 1:
			n = min(n, uint64(w.runs[w.head].n))
		}
	}
	for i := range t.program.leaves {
		l := &t.program.leaves[i]
		if l.kind == TripSuccessRateOutlier && w.total+1 < l.n {
			n = min(n, l.n-1-w.total) // from l.n on the backend is compared with others
		}
	}
	return n
}

// first returns the first k of 1..n after which the program trips, or n and false when there is none.
func (t *trial) first(n uint64) (k uint64, trips bool) {
	defer t.set(0)
	t.set(1)
	if t.program.holds(t.circuit, t.now) {
		return 1, true
	}
	best := uint64(0)
	for i := range t.program.leaves {
		l := &t.program.leaves[i]
		flip := t.flip(l, n)
		if flip == 0 || best != 0 && flip >= best {
			continue
		}
		t.set(flip)
		if t.program.holds(t.circuit, t.now) {
			best = flip
		}
	}
	if best == 0 {
		return n, false
	}
	return best, true
}

// flip returns the first k of 2..n for which the value of the leaf differs from that for 1, or 0 when there is none.
func (t *trial) flip(l *leaf, n uint64) uint64 {
	t.set(1)
	before := l.holds(t.circuit, t.now)
	t.set(n)
	if l.holds(t.circuit, t.now) == before {
		return 0
	}
	low, high := uint64(1), n // says before at low, other at high
	for high-low > 1 {
		middle := low + (high-low)/2
		t.set(middle)
		if l.holds(t.circuit, t.now) == before {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// set sets the circuit's sums to those after k more outcomes.
func (t *trial) set(k uint64) {
	c := t.circuit
	w := &c.window
	w.counts = t.counts
	w.counts.add(t.sample, k)
	if t.full {
		w.counts.add(t.leaving, -k)
	}
	if c.group.plan.shape.kind == WindowCount {
		w.seq = t.seq + k
		if t.client {
			c.failing[0].at = int64(w.seq)
		}
	}
	c.streak = 0
	if t.sample.flags&sampleFailure != 0 || k == 0 {
		c.streak = t.streak + k
	}
	copy(c.streaks, t.streaks[:])
	if k > 0 && len(c.streaks) > 0 && t.result != resultLost {
		c.learnStreaks(t.result, k)
	}
}
