package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// Each cgroup above this process is found at its level: the root at 0, its child at 1, and so on.
func TestLevel(t *testing.T) {
	rootonly.Test(t)
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var own string
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(path)
		}
	}
	path := root
	for want, name := range append([]string{""}, strings.FieldsFunc(own, func(r rune) bool { return r == '/' })...) {
		path = filepath.Join(path, name)
		id, err := ID(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Level(id)
		if err != nil || got != want {
			t.Errorf("%s: level %d, %v; want %d", path, got, err, want)
		}
	}
	if _, err := Level(1 << 60); err == nil {
		t.Error("a cgroup that is not there was found")
	}
}
