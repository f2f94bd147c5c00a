// Package statedir keeps the data that survive a restart of the agent: the last events, and the state of circuits that the
// kernel does not keep. A full or hanging disk does not delay the agent.
package statedir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cbagent/cbagent/internal/filelock"
	"github.com/cbagent/cbagent/internal/history"
)

// ErrInUse marks the error of a directory that another agent uses.
var ErrInUse = errors.New("another agent uses it")

// startPatience is how long a start waits for the disk: the kernel's lease runs meanwhile.
const startPatience = 2 * time.Second

// Dir is the directory of one agent.
type Dir struct {
	History *history.History
	lock    *os.File // held while it is open; nil: there is no directory, or it cannot be locked
}

// Open locks the directory for this agent and opens its files. If that is not possible, such as on a read-only file system
// or a disk that does not answer, and for an empty path, the history is in memory only.
func Open(path string, log *slog.Logger) (*Dir, error) {
	if path == "" {
		h, err := history.Open("", log)
		return &Dir{History: h}, err
	}
	d, err := withDisk(path, startPatience, func() (*Dir, error) { return open(path, log) })
	if err == nil || errors.Is(err, ErrInUse) {
		return d, err
	}
	log.Error("events are not kept over a restart", "error", err)
	if d == nil {
		d = &Dir{}
	}
	d.History, err = history.Open("", log)
	return d, err
}

// Close unlocks the directory. It does not close the history.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

// open returns the opened files also with an error.
func open(path string, log *slog.Logger) (*Dir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{lock: lock}
	d.History, err = history.Open(filepath.Join(path, "history.jsonl"), log)
	return d, err
}

// lockDir locks the directory for this process as long as the returned file is open.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = filelock.Lock(f)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	var held *filelock.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("--state-dir %s: %w (%s): stop it, or name another directory", dir, ErrInUse, held.Holder)
	}
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}
