package breaker

// run is a number of equal outcomes in a row.
type run struct {
	latency uint64
	n       uint32 // at most the size of the window, 100000
	flags   uint16
}

func (r *run) sample() sample { return sample{latency: r.latency, flags: r.flags} }

// addRun records n outcomes equal to s; the oldest leave so that no more than size remain.
func (w *window) addRun(shape *windowShape, s sample, n uint64) {
	w.seq += n
	if n >= shape.size {
		w.counts = counts{}
		w.head, w.n = 0, 0
		n = shape.size
	}
	for over := w.total + n; over > shape.size; over = w.total + n {
		w.dropRun(min(over-shape.size, uint64(w.runs[w.head].n)))
	}
	if n == 1 {
		w.counts.addOne(s)
	} else {
		w.counts.add(s, n)
	}
	w.pushRun(shape, s, uint32(n))
}

// dropRun forgets the oldest n outcomes, all of one run.
func (w *window) dropRun(n uint64) {
	r := &w.runs[w.head]
	if n == 1 {
		w.counts.takeOne(r.sample())
	} else {
		w.counts.add(r.sample(), -n)
	}
	if r.n -= uint32(n); r.n == 0 {
		w.n--
		if w.head++; int(w.head) == len(w.runs) {
			w.head = 0
		}
	}
}

func (w *window) pushRun(shape *windowShape, s sample, n uint32) {
	if w.n > 0 {
		i := int(w.head) + int(w.n) - 1
		if i >= len(w.runs) {
			i -= len(w.runs)
		}
		if w.runs[i].sample() == s {
			w.runs[i].n += n
			return
		}
	}
	if int(w.n) == len(w.runs) {
		grown := make([]run, ringGrowth(len(w.runs), shape.size))
		k := copy(grown, w.runs[w.head:])
		copy(grown[k:], w.runs[:w.head])
		w.runs, w.head = grown, 0
	}
	i := int(w.head) + int(w.n)
	if i >= len(w.runs) {
		i -= len(w.runs)
	}
	w.runs[i] = run{latency: s.latency, flags: s.flags, n: n}
	w.n++
}
