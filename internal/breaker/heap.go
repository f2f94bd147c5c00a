package breaker

// deadlines is a heap of circuits by deadline, then by age. Only circuits that wait for something are in it.
type deadlines []*Circuit

func (h deadlines) before(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].order < h[j].order
}

func (h deadlines) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

// put brings c to its place: in, out or elsewhere.
func (h *deadlines) put(c *Circuit) {
	switch {
	case c.deadline == Never && c.heapAt < 0:
	case c.deadline == Never:
		h.take(c)
	case c.heapAt < 0:
		c.heapAt = len(*h)
		*h = append(*h, c)
		h.up(c.heapAt)
	default:
		h.up(c.heapAt)
		h.down(c.heapAt)
	}
}

func (h *deadlines) take(c *Circuit) {
	i, last := c.heapAt, len(*h)-1
	if i < 0 {
		return
	}
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	c.heapAt = -1
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h deadlines) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h deadlines) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			return
		}
		h.swap(i, child)
		i = child
	}
}
