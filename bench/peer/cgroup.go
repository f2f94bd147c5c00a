package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cgroup makes a cgroup v2 for the site's clients, if it has none, and returns its path. It goes with the site.
func (s *Site) cgroup() (string, error) {
	if s.clients != nil {
		return s.clients.Name(), nil
	}
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	path, err := os.MkdirTemp(root, "cbagent-bench-")
	if err != nil {
		return "", fmt.Errorf("make a cgroup: %w", err)
	}
	s.OnClose(func() error { return os.Remove(path) })
	if s.clients, err = os.Open(path); err != nil {
		return "", fmt.Errorf("open a cgroup: %w", err)
	}
	s.OnClose(s.clients.Close)
	return path, nil
}

// ErrNoCgroup says that the machine has no cgroup v2 mounted.
var ErrNoCgroup = errors.New("no cgroup v2 is mounted")

// cgroupRoot finds where cgroup v2 is mounted.
func cgroupRoot() (string, error) {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return filepath.Clean(f[1]), nil
		}
	}
	return "", ErrNoCgroup
}
