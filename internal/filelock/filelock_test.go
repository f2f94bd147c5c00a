package filelock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lock")
	for _, path := range []string{dir, file} {
		open := func() *os.File {
			t.Helper()
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		}
		if path == file {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		first, second := open(), open()
		if err := Lock(first); err != nil {
			t.Fatal(err)
		}
		var held *HeldError
		if err := Lock(second); !errors.As(err, &held) || held.Holder != fmt.Sprintf("process %d", os.Getpid()) {
			t.Errorf("%s: got %v, want that this process has it", path, err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Lock(second); err != nil {
			t.Errorf("%s: %v, though no process has it", path, err)
		}
	}
}
