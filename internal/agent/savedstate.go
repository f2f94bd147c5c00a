package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// savedState is what the state file holds.
type savedState struct {
	Boot     string         `json:"boot"` // monotonic times mean nothing after a reboot
	Circuits []savedCircuit `json:"circuits"`

	Standing map[string]breaker.Override `json:"standing,omitempty"` // of whole policies
}

type savedCircuit struct {
	Policy   string           `json:"policy"`
	Backend  string           `json:"backend"`
	Snapshot breaker.Snapshot `json:"snapshot"`
}

func writeState(path string, s *savedState) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		_ = os.Remove(tmp) // half a file takes room for nothing
		return err
	}
	return os.Rename(tmp, path)
}

func readState(path string) (savedState, error) {
	var s savedState
	if path == "" {
		return s, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return savedState{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Boot != bootID() {
		return savedState{}, nil
	}
	return s, nil
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// errNoDisk says that a call of the file system has not come back.
var errNoDisk = errors.New("the disk does not answer")

// withDisk calls f, which works on path, and returns errNoDisk when it takes longer than the given time. f goes on then; what
// it returns is lost.
func withDisk[T any](path string, within time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timeout.C:
		var none T
		return none, fmt.Errorf("%s: %w", path, errNoDisk)
	}
}
