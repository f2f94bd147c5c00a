package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	saveAgain   = time.Second     // time from a failed write to the next attempt
	saveShare   = 20              // writing takes at most one part in so many of the time
	silentAfter = 5 * time.Second // a write that takes longer is reported as hanging
	logEvery    = time.Minute     // time between two log lines about the same error
)

// File writes states to a file from a goroutine of its own: a full or hanging disk does not delay others. Of the waiting
// states it writes only the newest. Its methods may be called from any goroutine.
type File struct {
	path string // empty: no state is kept
	log  *slog.Logger
	wake chan struct{} // a state waits; room for one

	mu        sync.Mutex    // never held during a write
	next      *State        // to be written
	submitted uint64        // number of the newest state passed to Put
	attempted uint64        // number of the newest state whose write has ended
	err       error         // of that write
	ended     chan struct{} // closed and replaced when a write ends
	behind    time.Time     // when the oldest state that is not in the file was submitted; zero: all are
	idleUntil time.Time     // until then only an operator's order causes a write
	loggedAt  time.Time     // of the last log line about trouble; zero: there is none
	failures  uint64
}

// NewFile returns a File that writes to path and does not read the file. With an empty path no state is kept.
func NewFile(path string, log *slog.Logger) *File {
	f := &File{path: path, log: log, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if path != "" {
		go f.run()
	}
	return f
}

// Put submits a state for writing, replaces one that still waits, and returns its number for Await. It does not wait.
func (f *File) Put(s *State) uint64 {
	if f.path == "" {
		return 0
	}
	f.mu.Lock()
	f.submitted++
	f.next = s
	if f.behind.IsZero() {
		f.behind = time.Now()
	}
	n := f.submitted
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it is awake
	}
	return n
}

// Await waits until the state of that number, or a newer one, is in the file. It returns the reason if it is not.
func (f *File) Await(number uint64, within time.Duration) error {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		attempted, err, ended := f.attempted, f.err, f.ended
		f.mu.Unlock()
		if attempted >= number {
			return err
		}
		select {
		case <-ended:
		case <-timeout.C:
			return fmt.Errorf("write %s: %w", f.path, ErrNoDisk)
		}
	}
}

// Load returns the state in the file. It waits for the disk at most startPatience.
func (f *File) Load() (State, error) {
	return withDisk(f.path, startPatience, func() (State, error) { return read(f.path) })
}

// Remove removes the file, if there is one. It waits for the disk at most startPatience.
func (f *File) Remove() error {
	if f.path == "" {
		return nil
	}
	_, err := withDisk(f.path, startPatience, func() (struct{}, error) { return struct{}{}, os.Remove(f.path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Due reports whether a state without an order of an operator may be written now.
func (f *File) Due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path != "" && f.next == nil && f.attempted == f.submitted && time.Now().After(f.idleUntil)
}

// View returns since when a state waits to be written (the zero Time when none does), why, and how many attempts have
// failed.
func (f *File) View() (behind time.Time, err error, failures uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.err
	if err == nil && !f.behind.IsZero() && time.Since(f.behind) > silentAfter {
		err = fmt.Errorf("write %s: %w", f.path, ErrNoDisk)
	}
	return f.behind, err, f.failures
}

// LogTrouble logs, at most once a minute, that the state cannot be written, and once that it is written again.
func (f *File) LogTrouble() {
	behind, err, _ := f.View()
	f.mu.Lock()
	loggedAt := f.loggedAt
	switch {
	case err == nil:
		f.loggedAt = time.Time{}
	case time.Since(loggedAt) >= logEvery:
		f.loggedAt = time.Now()
	default:
		err, loggedAt = nil, time.Time{}
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		f.log.Error("cannot write the state file: a restart may lose who forced a circuit, and backoff steps", "since", behind, "error", err)
	case !loggedAt.IsZero():
		f.log.Info("state file written again", "file", f.path)
	}
}

func (f *File) run() {
	for range f.wake {
		for again := true; again; {
			f.mu.Lock()
			s, number := f.next, f.submitted
			f.next = nil
			f.mu.Unlock()
			if s == nil {
				break
			}
			began := time.Now()
			err := write(f.path, s)
			again = f.note(s, number, began, err)
		}
	}
}

// note records the result of an attempt, and reports whether another state is to be written at once.
func (f *File) note(s *State, number uint64, began time.Time, err error) (again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempted, f.err = number, err
	close(f.ended)
	f.ended = make(chan struct{})
	f.idleUntil = time.Now().Add((saveShare - 1) * time.Since(began))
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
