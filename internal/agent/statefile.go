package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	saveAgain    = time.Second     // how long after a failure the state file is tried again
	saveShare    = 20              // writing it takes one part of the time in so many
	silentAfter  = 5 * time.Second // a disk that takes longer is complained of
	complainSome = time.Minute     // how often
)

// stateFile writes states to a file from a goroutine of its own: a full or hanging disk costs nobody else time. Of states
// that wait only the newest is written. Its methods may be called from any goroutine.
type stateFile struct {
	path string // empty: no state is kept
	log  *slog.Logger
	wake chan struct{} // a state waits; room for one

	mu       sync.Mutex    // never held while the disk is waited for
	next     *savedState   // to be written
	given    uint64        // number of the newest state given
	tried    uint64        // of the newest state whose writing has ended
	err      error         // how
	ended    chan struct{} // closed and replaced when it does
	behind   time.Time     // when the oldest state that is not in the file was given; zero: all are
	rest     time.Time     // until when only Override writes
	said     time.Time     // when the log had the latest complaint; zero: nothing to complain of
	failures uint64
}

func newStateFile(path string, log *slog.Logger) *stateFile {
	f := &stateFile{path: path, log: log, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if path != "" {
		go f.run()
	}
	return f
}

// put gives a state to be written, in the place of one that still waits, and returns its number for await.
func (f *stateFile) put(s *savedState) uint64 {
	if f.path == "" {
		return 0
	}
	f.mu.Lock()
	f.given++
	f.next = s
	if f.behind.IsZero() {
		f.behind = time.Now()
	}
	n := f.given
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it is awake
	}
	return n
}

// await waits until the state of that number, or a newer one, is in the file. The error says why it is not.
func (f *stateFile) await(number uint64, within time.Duration) error {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		tried, err, ended := f.tried, f.err, f.ended
		f.mu.Unlock()
		if tried >= number {
			return err
		}
		select {
		case <-ended:
		case <-timeout.C:
			return fmt.Errorf("write %s: %w", f.path, errNoDisk)
		}
	}
}

// due reports whether a state may be written that nobody waits for.
func (f *stateFile) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path != "" && f.next == nil && f.tried == f.given && time.Now().After(f.rest)
}

// view returns since when a state waits to be written, the zero Time when all are, why it does, and how many attempts
// have failed.
func (f *stateFile) view() (behind time.Time, err error, failures uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.err
	if err == nil && !f.behind.IsZero() && time.Since(f.behind) > silentAfter {
		err = fmt.Errorf("write %s: %w", f.path, errNoDisk)
	}
	return f.behind, err, f.failures
}

// complain logs, now and then, that the state is not written, and once that it is again.
func (f *stateFile) complain() {
	behind, err, _ := f.view()
	f.mu.Lock()
	said := f.said
	switch {
	case err == nil:
		f.said = time.Time{}
	case time.Since(said) >= complainSome:
		f.said = time.Now()
	default:
		err, said = nil, time.Time{}
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		f.log.Error("state file not written: a restart may lose who forced a circuit, and backoff steps", "since", behind, "error", err)
	case !said.IsZero():
		f.log.Info("state file written again", "file", f.path)
	}
}

func (f *stateFile) run() {
	for range f.wake {
		for again := true; again; {
			f.mu.Lock()
			s, number := f.next, f.given
			f.next = nil
			f.mu.Unlock()
			if s == nil {
				break
			}
			began := time.Now()
			err := writeState(f.path, s)
			again = f.note(s, number, began, err)
		}
	}
}

// note keeps the books of an attempt, and reports whether there is more to write at once.
func (f *stateFile) note(s *savedState, number uint64, began time.Time, err error) (again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried, f.err = number, err
	close(f.ended)
	f.ended = make(chan struct{})
	f.rest = time.Now().Add((saveShare - 1) * time.Since(began))
	again = f.next != nil
	if err == nil {
		f.behind = time.Time{}
		if again {
			f.behind = began
		}
		return again
	}
	f.failures++
	if !again {
		f.next = s
		time.AfterFunc(saveAgain, func() {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		})
	}
	return again
}
