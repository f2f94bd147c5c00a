// Package outbox delivers items to a slow receiver, such as a disk, a log's reader or an API server, from a goroutine of
// its own. Senders never wait: items for which there is no room are dropped and counted.
package outbox

import (
	"sync"
	"sync/atomic"
	"time"
)

// Outbox is a bounded queue with one receiver. Its methods may be called from any goroutine.
type Outbox[T any] struct {
	deliver func(T) error
	report  func(dropped uint64)
	dropped atomic.Uint64
	done    chan struct{}

	mu     sync.Mutex // never held while something is delivered
	items  chan T
	closed bool
}

// New returns an outbox with room for size items (at least 1). Its goroutine calls deliver with one after the other; an
// item for which it returns an error counts as dropped. When items were dropped, one was delivered since and none waits,
// it calls report with their number since the last report.
func New[T any](size int, deliver func(T) error, report func(dropped uint64)) *Outbox[T] {
	o := &Outbox[T]{deliver: deliver, report: report, done: make(chan struct{}), items: make(chan T, size)}
	go o.run()
	return o
}

// Put adds an item, or drops it if there is no room or the outbox is closed. It never waits.
func (o *Outbox[T]) Put(item T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.dropped.Add(1)
		return
	}
	select {
	case o.items <- item:
	default:
		o.dropped.Add(1)
	}
}

// Waiting returns how many items wait for their delivery.
func (o *Outbox[T]) Waiting() int { return len(o.items) }

// Dropped returns how many items have not been delivered so far.
func (o *Outbox[T]) Dropped() uint64 { return o.dropped.Load() }

// Close waits until all items are delivered, for at most the given time, and reports whether they are. A second call waits
// again.
func (o *Outbox[T]) Close(within time.Duration) bool {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.items)
	}
	o.mu.Unlock()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case <-o.done:
		return true
	case <-timeout.C:
		return false
	}
}

func (o *Outbox[T]) run() {
	defer close(o.done)
	var reported uint64
	for item := range o.items {
		if o.deliver(item) != nil {
			o.dropped.Add(1)
			continue
		}
		if n := o.dropped.Load(); n > reported && len(o.items) == 0 {
			o.report(n - reported)
			reported = n
		}
	}
}
