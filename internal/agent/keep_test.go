package agent

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

func TestStateDirIsOneAgents(t *testing.T) {
	cfg := &Config{StateDir: filepath.Join(t.TempDir(), "state"), Logger: slog.New(slog.DiscardHandler)}
	first, err := keep(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = keep(cfg)
	if want := fmt.Sprintf("--state-dir %s: another agent uses it (process %d)", cfg.StateDir, os.Getpid()); err == nil ||
		!errors.Is(err, ErrStateDirInUse) || !strings.Contains(err.Error(), want) {
		t.Errorf("a second agent: got %v, want %s", err, want)
	}
	first.history.Close(patience)
	if err := first.unlock(); err != nil {
		t.Fatal(err)
	}
	second, err := keep(cfg)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	second.history.Close(patience)
	if err := second.unlock(); err != nil {
		t.Error(err)
	}
}

// Where nothing can be kept the agent goes on.
func TestStateDirThatCannotBeUsed(t *testing.T) {
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
	for state, want := range map[string]string{"": "", filepath.Join(file, "state"): "not a directory", hangs: errNoDisk.Error()} {
		var log bytes.Buffer // of this goroutine: the one that hangs does so for as long as the test
		k, err := keep(&Config{StateDir: state, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatalf("%s: %v", state, err)
		}
		if r := k.history.Add(view.Record{Kind: view.KindLease}); r.Seq != 1 {
			t.Errorf("%s: the first record has number %d", state, r.Seq)
		}
		k.history.Close(patience)
		if got := log.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: the log says %q, want %q", state, got, want)
		}
	}
}
