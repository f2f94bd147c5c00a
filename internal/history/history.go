// Package history keeps the last records of events, in memory for readers and in a file over restarts. Adding a record
// never waits for the disk or for a reader.
package history

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/outbox"
	"github.com/cbagent/cbagent/internal/view"
)

// Kept is how many records are kept.
const Kept = 1000

// History holds the last records. Its methods may be called from any goroutine.
type History struct {
	log     *slog.Logger
	dropped atomic.Uint64 // records that followers missed

	mu        sync.Mutex
	seq       uint64
	records   []view.Record // oldest first; only the last Kept are valid
	followers map[*Follower]struct{}
	rejected  uint64 // followers for which there was no room
	closed    bool

	file    *file
	written *outbox.Outbox[view.Record] // to the file; nil without one
}

// Open reads the records of a file and appends new ones to it. With an empty path records are in memory only. Lines that
// cannot be read, such as the last one after a crash, are omitted with a warning. Writes that fail, such as on a full disk,
// are tried again.
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
		logger.Error("the history is not kept over a restart", "file", path, "error", err)
		f = &file{path: path, retry: time.Now().Add(retryEvery)}
	}
	h.file = f
	h.written = outbox.New(Kept, func(r view.Record) error { return h.write(f, &r) }, func(lost uint64) { h.caughtUp(f, lost) })
	return h, nil
}

// Add gives the record its number and keeps it.
func (h *History) Add(r view.Record) view.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	r.Seq = h.seq
	if len(h.records) == 2*Kept { // moved once for every Kept records
		h.records = h.records[:copy(h.records, h.records[Kept+1:])]
	}
	h.records = append(h.records, r)
	for f := range h.followers {
		f.offer(r)
	}
	if h.written != nil {
		h.written.Put(r)
	}
	return r
}

// Last returns up to n of the newest records, oldest first. The records are shared: not to be changed.
func (h *History) Last(n int) []view.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.records[max(0, len(h.records)-min(n, Kept)):])
}

// Seq returns the number of the newest record, 0 if there has been none.
func (h *History) Seq() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seq
}

// Lost returns how many records were not written to the file when they came, because the disk was too slow or failed.
func (h *History) Lost() uint64 {
	if h.written == nil {
		return 0
	}
	return h.written.Dropped()
}

// Close writes the waiting records, closes the file and ends followers. It waits for the disk at most the given time. A
// second call does nothing.
func (h *History) Close(within time.Duration) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	for f := range h.followers {
		f.end()
	}
	clear(h.followers)
	h.mu.Unlock()
	if h.written == nil {
		return
	}
	written := h.written.Close(within)
	if written {
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.close(h.file)
		}()
		select {
		case <-done:
		case <-time.After(within):
			written = false
		}
	}
	if !written {
		h.log.Error("the newest records are not kept over a restart: the disk does not answer", "file", h.file.path)
	}
}
