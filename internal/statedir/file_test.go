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
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// patience bounds every wait; only a failing test waits so long.
const patience = 10 * time.Second

// state returns a state that differs from others.
func state(name string) *State {
	return &State{Boot: bootID(), Standing: map[string]breaker.Override{name: {}}}
}

func wantSaved(t *testing.T, path, name string) {
	t.Helper()
	got, err := read(path)
	if _, ok := got.Standing[name]; !ok || err != nil {
		t.Errorf("the file holds %+v, %v; want the state %s", got, err, name)
	}
}

func TestFileIsWrittenWhenAwaitReturns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	f := NewFile(path, slog.New(slog.DiscardHandler))
	if !f.Due() {
		t.Error("nothing is due at first")
	}
	for i := range 20 {
		name := fmt.Sprint(i)
		if err := f.Await(f.Put(state(name)), patience); err != nil {
			t.Fatal(err)
		}
		wantSaved(t, path, name)
	}
	if behind, err, failures := f.View(); !behind.IsZero() || err != nil || failures != 0 {
		t.Errorf("behind %v, %v, %d failures", behind, err, failures)
	}
}

func TestFileOnFullDisk(t *testing.T) {
	rootonly.Test(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path, junk := filepath.Join(dir, "state.json"), filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	var log bytes.Buffer
	f := NewFile(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err := f.Await(f.Put(state("first")), patience); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v, want %v", err, unix.ENOSPC)
	}
	for range 3 {
		f.LogTrouble()
	}
	behind, err, failures := f.View()
	if behind.IsZero() || !errors.Is(err, unix.ENOSPC) || failures != 1 || f.Due() {
		t.Errorf("behind since %v, %v, %d failures, due %v", behind, err, failures, f.Due())
	}
	if n := strings.Count(log.String(), "cannot write the state file"); n != 1 {
		t.Errorf("the log says it %d times, want once: %s", n, &log)
	}
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	// It is tried again without being asked.
	deadline := time.Now().Add(patience)
	for !behind.IsZero() {
		if time.Now().After(deadline) {
			t.Fatalf("still behind: %v", err)
		}
		time.Sleep(time.Millisecond)
		behind, err, _ = f.View()
	}
	wantSaved(t, path, "first")
	f.LogTrouble()
	if !strings.Contains(log.String(), "state file written again") {
		t.Errorf("the log does not say that it is over: %s", &log)
	}
}

// Put does not wait for a disk that does not answer; Await returns an error in time.
func TestFileOnHangingDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := unix.Mkfifo(path+".new", 0o600); err != nil { // who opens it for writing waits for a reader
		t.Fatal(err)
	}
	f := NewFile(path, slog.New(slog.DiscardHandler))
	var last uint64
	for i := range 1000 {
		last = f.Put(state(fmt.Sprint(i)))
	}
	if err := f.Await(last, 10*time.Millisecond); !errors.Is(err, ErrNoDisk) {
		t.Errorf("got %v, want %v", err, ErrNoDisk)
	}
	if f.Due() {
		t.Error("more is due while nothing can be written")
	}
	f.mu.Lock()
	f.behind = f.behind.Add(-silentAfter)
	f.mu.Unlock()
	if _, err, _ := f.View(); !errors.Is(err, ErrNoDisk) {
		t.Errorf("the view says %v, want %v", err, ErrNoDisk)
	}
	// The disk answers again.
	reader, err := os.OpenFile(path+".new", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := f.Await(last, patience); err != nil { // the state that was under way goes into the FIFO, the last into a file
		t.Fatal(err)
	}
	wantSaved(t, path, "999")
}

func TestHangingDiskDoesNotHoldUpTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := withDisk(path, 10*time.Millisecond, func() (State, error) { return read(path) })
	if !errors.Is(err, ErrNoDisk) {
		t.Errorf("got %v, want %v", err, ErrNoDisk)
	}
	w, err := os.OpenFile(path, os.O_RDWR, 0) // lets the reader go
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
}
