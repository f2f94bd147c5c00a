package tables

import "sync/atomic"

// portCounts counts the backends and networks on each port.
type portCounts map[uint16]int

// watchPort counts one more or one fewer on a port, and sets or clears its bit for the programs, which ignore packets of
// other ports.
func (t *Tables) watchPort(port uint16, by int) {
	t.ports[port] += by
	word, bit := &t.node.vals[0].Ports[port/64], uint64(1)<<(port%64)
	if t.ports[port] > 0 {
		atomic.OrUint64(word, bit)
		return
	}
	delete(t.ports, port)
	atomic.AndUint64(word, ^bit)
}

// writePorts sets the bits of all ports that are counted, and clears the others.
func (t *Tables) writePorts() {
	words := &t.node.vals[0].Ports
	for w := range words {
		var want uint64
		for bit := range 64 {
			if t.ports[uint16(w*64+bit)] > 0 {
				want |= 1 << bit
			}
		}
		atomic.StoreUint64(&words[w], want)
	}
}
