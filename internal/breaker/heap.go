package breaker

import "container/heap"

// deadlines is a heap of circuits by deadline, then by age. Only circuits with a deadline are in it.
type deadlines []*Circuit

// put inserts, moves or removes c, according to its deadline.
func (h *deadlines) put(c *Circuit) {
	switch {
	case c.deadline == Never:
		h.take(c)
	case c.heapAt < 0:
		heap.Push(h, c)
	default:
		heap.Fix(h, c.heapAt)
	}
}

// take removes c, if it is in the heap.
func (h *deadlines) take(c *Circuit) {
	if c.heapAt >= 0 {
		heap.Remove(h, c.heapAt)
	}
}

// Len, Less, Swap, Push and Pop are for container/heap only.

func (h deadlines) Len() int { return len(h) }

func (h deadlines) Less(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].order < h[j].order
}

func (h deadlines) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

func (h *deadlines) Push(c any) {
	c.(*Circuit).heapAt = len(*h)
	*h = append(*h, c.(*Circuit))
}

func (h *deadlines) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	c.heapAt = -1
	return c
}
