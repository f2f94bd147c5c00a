package places

import "maps"

// CircuitKernel is what Circuits needs of the datapath.
type CircuitKernel interface {
	Release(circuit int) // lets go of the circuit's connections: a sweep ends them
	Connections(circuit int) uint64
	ForgetStatuses(circuits map[int]bool) error
}

// Circuits are the places of circuits. The agent's lock protects them.
type Circuits struct {
	kernel   CircuitKernel
	size     int
	free     slots
	released []slot // whose connections are being let go
}

// NewCircuits returns the places of a table of that size, all free.
func NewCircuits(k CircuitKernel, size int) *Circuits { return &Circuits{kernel: k, size: size} }

// Size returns how many circuits there can be.
func (c *Circuits) Size() int { return c.size }

// Adopt keeps the places of a former agent's circuits from being taken before they are released, and returns those that are
// not in use but have connections: the agent was killed before it had released them. They are released. now is the kernel's
// monotonic time in ns, as in all of the package.
func (c *Circuits) Adopt(used map[int]bool, now int64) (unclaimed int) {
	kept := maps.Clone(used)
	for id := range c.size {
		if !used[id] && c.kernel.Connections(id) > 0 {
			kept[id] = true
			c.Release(id, now)
			unclaimed++
		}
	}
	c.free.reserve(kept, never)
	return unclaimed
}

// Take returns a free place. False: there is none.
func (c *Circuits) Take(now int64) (id int, ok bool) { return c.free.take(now, c.size) }

// Release lets go of the connections of a circuit that is no longer used. Its place means something else only when none is
// left that refers to it: that one would be judged by another's policy, and counted off another's connections.
func (c *Circuits) Release(id int, now int64) {
	c.kernel.Release(id)
	c.released = append(c.released, slot{id, now + rest})
}

// Reuse frees the released places that no connection refers to any more, and reports whether there are any. The error says
// that counts of a former circuit may be left there; the places are free all the same.
func (c *Circuits) Reuse(now int64) (freed bool, err error) {
	done := map[int]bool{}
	kept := c.released[:0]
	for _, s := range c.released {
		if now >= s.from && c.kernel.Connections(s.id) == 0 {
			done[s.id] = true
		} else {
			kept = append(kept, s)
		}
	}
	c.released = kept
	if len(done) == 0 {
		return false, nil
	}
	err = c.kernel.ForgetStatuses(done)
	for id := range done {
		c.free.give(id, now)
	}
	return true, err
}
