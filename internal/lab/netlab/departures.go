package netlab

import "time"

// departure is a frame that waits to go out.
type departure struct {
	frame     []byte
	number    uint64 // of its arrival
	due       time.Time
	turn      uint64 // among those that are due at the same time
	overtakes int    // how many more frames are to overtake it, if it is held for that
	index     int    // in departures; -1 when it has left
}

// departures is a heap (container/heap) of frames; the one that is due first is at index 0.
type departures []*departure

func (d departures) Len() int { return len(d) }

func (d departures) Less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].turn < d[j].turn
	}
	return d[i].due.Before(d[j].due)
}

func (d departures) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *departures) Push(x any) {
	w := x.(*departure)
	w.index = len(*d)
	*d = append(*d, w)
}

func (d *departures) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	w.index = -1
	return w
}
