package netlab

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// RelayCounts counts the frames of a direction of a relay.
type RelayCounts struct {
	Frames     uint64 // came in
	Carried    uint64 // went out, copies and injected ones included
	Lost       uint64 // by impairment or hook
	Duplicated uint64 // copies made
	Reordered  uint64 // went out after a frame that had come in later
	Delayed    uint64 // were held for Delay, of an Impairment or a Fate
	Injected   uint64 // made by a test
	Failed     uint64 // were to go out, but the interface did not take them
}

// Direction is one of the two of a Relay. Its methods may be called at any time, but not by a hook.
type Direction struct {
	send func(frame []byte) error

	mu      sync.Mutex
	rand    *rand.Rand
	impair  Impairment
	hook    Hook
	waiting departures
	held    []*departure // those of waiting that later frames are to overtake
	latest  time.Time    // when the last frame leaves that keeps its order
	newest  uint64       // the highest number of a frame that went out
	turns   uint64
	timer   *time.Timer // fires when the first of waiting is due
	closed  bool
	counts  RelayCounts
}

// newDirection makes a direction that sends frames by a function, which it calls for one frame after the other. Directions
// with the same seed and stream draw the same random numbers.
func newDirection(seed, stream uint64, send func([]byte) error) *Direction {
	d := &Direction{send: send, rand: rand.New(rand.NewPCG(seed, stream))}
	d.timer = time.AfterFunc(time.Hour, d.fire)
	d.timer.Stop()
	return d
}

// Set replaces the random impairment, for frames that come in from now on.
func (d *Direction) Set(i Impairment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.impair = i.withDefaults()
}

// SetHook replaces the hook, for frames that come in from now on; nil removes it.
func (d *Direction) SetHook(h Hook) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = h
}

// Inject sends a frame in this direction at once, past the impairment.
func (d *Direction) Inject(frame []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.counts.Injected++
		d.carry(frame, d.newest)
	}
}

// Counts returns what was done so far.
func (d *Direction) Counts() RelayCounts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// arrive takes a frame that came in. It does not keep the slice.
func (d *Direction) arrive(frame []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	now := time.Now()
	d.depart(now)
	d.counts.Frames++
	p := d.impair.plan(d.rand)
	if d.hook != nil {
		p = d.hook(frame).apply(p)
	}
	if p.lost {
		d.counts.Lost++
		return
	}
	if p.delay > 0 || p.alone > 0 {
		d.counts.Delayed++
	}
	due := now.Add(p.delay)
	if due.Before(d.latest) {
		due = d.latest
	}
	number := d.counts.Frames
	switch {
	case p.alone > 0:
		d.wait(frame, number, due.Add(p.alone))
	case p.hold:
		d.hold(frame, number, due.Add(d.impair.ReorderFor))
	default:
		d.latest = due
		d.queue(frame, number, due, now)
		d.overtake(due)
	}
	for range p.copies {
		d.counts.Duplicated++
		d.queue(frame, number, due, now)
	}
	d.depart(now)
}

// queue sends a frame when it is due. No other frame is due now.
func (d *Direction) queue(frame []byte, number uint64, due, now time.Time) {
	if due.After(now) {
		d.wait(frame, number, due)
		return
	}
	d.carry(frame, number)
}

// wait keeps a frame until it is due.
func (d *Direction) wait(frame []byte, number uint64, due time.Time) *departure {
	d.turns++
	w := &departure{frame: slices.Clone(frame), number: number, due: due, turn: d.turns}
	heap.Push(&d.waiting, w)
	return w
}

// hold keeps a frame until later ones have overtaken it, or until it is due.
func (d *Direction) hold(frame []byte, number uint64, due time.Time) {
	h := d.wait(frame, number, due)
	h.overtakes = d.impair.ReorderBy
	d.held = append(d.held, h)
}

// overtake notes that a frame leaves at a time, and schedules the held frames that wait for no other one.
func (d *Direction) overtake(at time.Time) {
	d.held = slices.DeleteFunc(d.held, func(h *departure) bool {
		if h.index < 0 {
			return true // it has left
		}
		if h.due.Before(at) {
			return false
		}
		if h.overtakes--; h.overtakes > 0 {
			return false
		}
		d.turns++
		h.due, h.turn = at, d.turns
		heap.Fix(&d.waiting, h.index)
		return true
	})
}

// depart sends the frames that are due, and starts the timer for the others.
func (d *Direction) depart(now time.Time) {
	for len(d.waiting) > 0 && !d.waiting[0].due.After(now) {
		w := heap.Pop(&d.waiting).(*departure)
		d.carry(w.frame, w.number)
	}
	if len(d.waiting) > 0 {
		d.timer.Reset(d.waiting[0].due.Sub(now))
	}
}

func (d *Direction) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.depart(time.Now())
}

func (d *Direction) carry(frame []byte, number uint64) {
	if number < d.newest {
		d.counts.Reordered++
	}
	d.newest = max(d.newest, number)
	if err := d.send(frame); err != nil {
		d.counts.Failed++
		return
	}
	d.counts.Carried++
}

// close drops the waiting frames. Nothing is sent afterwards.
func (d *Direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.timer.Stop()
	d.waiting, d.held = nil, nil
}
