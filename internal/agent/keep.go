package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cbagent/cbagent/internal/filelock"
	"github.com/cbagent/cbagent/internal/history"
)

// ErrStateDirInUse marks the error of an agent whose Config.StateDir is another's.
var ErrStateDirInUse = errors.New("another agent uses it")

// kept is what an agent has of its Config.StateDir.
type kept struct {
	lock    *os.File // held while it is open; nil: there is no directory, or it cannot be locked
	history *history.History
}

// keep takes the directory for this agent alone and opens what is kept there. Where nothing can be kept, such as on a
// read-only file system, or a disk that does not answer, the agent goes on with a history in memory.
func keep(cfg *Config) (kept, error) {
	if cfg.StateDir == "" {
		h, err := history.Open("", cfg.Logger)
		return kept{history: h}, err
	}
	k, err := withDisk(cfg.StateDir, startPatience, func() (kept, error) { return openStateDir(cfg) })
	if err == nil || errors.Is(err, ErrStateDirInUse) {
		return k, err
	}
	cfg.Logger.Error("events are not kept over a restart", "error", err)
	k.history, err = history.Open("", cfg.Logger)
	return k, err
}

// unlock leaves the directory to others.
func (k *kept) unlock() error {
	if k.lock == nil {
		return nil
	}
	return k.lock.Close()
}

func openStateDir(cfg *Config) (k kept, err error) {
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		return k, err
	}
	if k.lock, err = lockStateDir(cfg.StateDir); err != nil {
		return k, err
	}
	k.history, err = history.Open(filepath.Join(cfg.StateDir, "history.jsonl"), cfg.Logger)
	return k, err
}

// lockStateDir takes the directory for this process while the file that it returns is open.
func lockStateDir(dir string) (*os.File, error) {
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
		return nil, fmt.Errorf("--state-dir %s: %w (%s): stop it, or name another directory", dir, ErrStateDirInUse, held.Holder)
	}
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}
