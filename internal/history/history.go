// Package history keeps the last records of what happened: in memory for those who ask, in a file over restarts. Adding a
// record never waits for the disk or for a reader.
package history

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cbagent/cbagent/internal/view"
)

// Kept is how many records are kept.
const Kept = 1000

// History is the last records. Its methods may be called from any goroutine.
type History struct {
	log     *slog.Logger
	lost    atomic.Uint64
	dropped atomic.Uint64

	mu        sync.Mutex
	seq       uint64
	records   []view.Record // oldest first
	followers map[*Follower]struct{}
	rejected  uint64 // followers for which there was no room
	closed    bool

	queue chan view.Record // to the file; nil without one
	done  chan struct{}
}

// Open reads what a file holds and goes on writing there. An empty path keeps records in memory only. Lines that cannot be
// read, such as the last one after a crash, are left out with a warning.
func Open(path string, logger *slog.Logger) (*History, error) {
	h := &History{log: logger, followers: map[*Follower]struct{}{}}
	if path == "" {
		return h, nil
	}
	past, bad, err := read(path)
	if err != nil {
		return nil, err
	}
	if bad > 0 {
		logger.Warn("records of the past that cannot be read are left out", "file", path, "lines", bad)
	}
	h.records = past[max(0, len(past)-Kept):]
	if len(h.records) > 0 {
		h.seq = h.records[len(h.records)-1].Seq
	}
	f, err := create(path, h.records)
	if err != nil {
		return nil, err
	}
	h.queue, h.done = make(chan view.Record, Kept), make(chan struct{})
	go func() {
		defer close(h.done)
		h.write(f)
	}()
	return h, nil
}

// Add gives the record its number and keeps it.
func (h *History) Add(r view.Record) view.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	r.Seq = h.seq
	if len(h.records) == Kept {
		copy(h.records, h.records[1:])
		h.records = h.records[:Kept-1]
	}
	h.records = append(h.records, r)
	for f := range h.followers {
		f.offer(r)
	}
	if h.queue != nil && !h.closed {
		select {
		case h.queue <- r:
		default:
			h.lost.Add(1)
		}
	}
	return r
}

// Last returns up to n of the newest records, oldest first. The records are shared: not to be changed.
func (h *History) Last(n int) []view.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.records[max(0, len(h.records)-n):])
}

// Seq returns the number of the newest record, 0 when there was none ever.
func (h *History) Seq() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seq
}

// Lost returns how many records the file misses because the disk was too slow.
func (h *History) Lost() uint64 { return h.lost.Load() }

// Close writes what is waiting and closes the file. Followers end. A second call does nothing.
func (h *History) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	for f := range h.followers {
		f.end()
	}
	clear(h.followers)
	if h.queue != nil {
		close(h.queue)
	}
	h.mu.Unlock()
	if h.done != nil {
		<-h.done
	}
	return nil
}
