package places

import "maps"

// CircuitKernel is the part of the datapath that Circuits uses.
type CircuitKernel interface {
	Release(circuit int) // frees the circuit; the next sweep removes its connections
	Connections(circuit int) uint64
	ForgetStatuses(circuits map[int]bool) error
}

// Circuits are the places of circuits. The agent's lock protects them.
type Circuits struct {
	kernel   CircuitKernel
	size     int
	free     slots
	released []slot // circuits that connections may still refer to
}

// NewCircuits returns the places of a table of that size, all free.
func NewCircuits(k CircuitKernel, size int) *Circuits { return &Circuits{kernel: k, size: size} }

// Size returns how many circuits there can be.
func (c *Circuits) Size() int { return c.size }

// Adopt reserves the places of a former agent's circuits until they are released. It releases those that are not in use but
// have connections, because the agent was killed before it had released them, and returns how many these are. now is the
// kernel's monotonic time in ns, as in all of the package.
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

// Take returns a free place, or false when there is none.
func (c *Circuits) Take(now int64) (id int, ok bool) { return c.free.take(now, c.size) }

// Release frees a circuit that is no longer used. Its place is used again only when no connection refers to it: the
// programs would judge such a connection by the policy of the new circuit, and subtract it from the connections of that
// one.
func (c *Circuits) Release(id int, now int64) {
	c.kernel.Release(id)
	c.released = append(c.released, slot{id, now + rest})
}

// Reuse frees the released places that no connection refers to any more, and reports whether there are any. An error says
// that counts of a former circuit may be left there; the places are free nevertheless.
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
