package statedir

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/view"
)

func TestDirIsOneAgents(t *testing.T) {
	path, log := filepath.Join(t.TempDir(), "state"), slog.New(slog.DiscardHandler)
	first, err := Open(path, log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, log)
	if want := fmt.Sprintf("--state-dir %s: another agent uses it (process %d)", path, os.Getpid()); err == nil ||
		!errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("a second agent: got %v, want %s", err, want)
	}
	first.History.Close(patience)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(path, log)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	second.History.Close(patience)
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// Where nothing can be kept the agent goes on.
func TestDirThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hangs := filepath.Join(dir, "hangs")
	if err := os.Mkdir(hangs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(hangs, "history.jsonl"), 0o600); err != nil { // who reads it waits for a writer
		t.Fatal(err)
	}
	for state, want := range map[string]string{"": "", filepath.Join(file, "state"): "not a directory", hangs: ErrNoDisk.Error()} {
		var log bytes.Buffer // of this goroutine: the one that hangs does so for as long as the test
		k, err := Open(state, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatalf("%s: %v", state, err)
		}
		if r := k.History.Add(view.Record{Kind: view.KindLease}); r.Seq != 1 {
			t.Errorf("%s: the first record has number %d", state, r.Seq)
		}
		k.History.Close(patience)
		if got := log.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: the log says %q, want %q", state, got, want)
		}
	}
}
