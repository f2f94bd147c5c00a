package statedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cbagent/cbagent/internal/breaker"
)

// State is the content of the state file: the state for the next agent that the kernel does not keep.
type State struct {
	Boot     string    `json:"boot"` // id of the boot, because monotonic times are valid only in one boot; empty: this one
	Circuits []Circuit `json:"circuits"`

	Standing map[string]breaker.Override `json:"standing,omitempty"` // of whole policies
}

// Circuit is the state of one circuit.
type Circuit struct {
	Policy   string           `json:"policy"`
	Backend  string           `json:"backend"`
	Snapshot breaker.Snapshot `json:"snapshot"`
}

// write replaces the file by one that holds s.
func write(path string, s *State) error {
	if s.Boot == "" {
		s.Boot = bootID()
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		_ = os.Remove(tmp) // an incomplete file only takes space
		return err
	}
	return os.Rename(tmp, path)
}

// read returns the state in the file. Without a file, with an empty path and for another boot it returns an empty state.
func read(path string) (State, error) {
	var s State
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
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Boot != bootID() {
		return State{}, nil
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
