package loader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/cgroup"
)

// Each cgroup above this process is found at its level: the root at 0, its child at 1, and so on.
func TestCgroupLevel(t *testing.T) {
	root, err := cgroup.Root()
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
		id, err := cgroup.ID(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := CgroupLevel(id)
		if err != nil || got != want {
			t.Errorf("%s: level %d, %v; want %d", path, got, err, want)
		}
	}
	if _, err := CgroupLevel(1 << 60); err == nil {
		t.Error("a cgroup that is not there was found")
	}
}
