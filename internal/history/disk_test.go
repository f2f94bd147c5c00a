package history

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// A full disk costs the file records while it is full; then the file is whole again.
func TestFullDisk(t *testing.T) {
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
	path, junk := filepath.Join(dir, "history.jsonl"), filepath.Join(dir, "junk")
	var log bytes.Buffer
	h := open(t, path, &log)
	h.Add(record(1))
	if err := os.WriteFile(junk, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	last := uint64(0)
	for n := 2; h.Lost() < 3; n++ {
		if n == 2*Kept {
			t.Fatalf("%d records, %d lost, log %s", n, h.Lost(), &log)
		}
		last = h.Add(record(n)).Seq
		for h.written.Waiting() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if got := h.Last(Kept); len(got) != int(last) || got[last-1].Seq != last {
		t.Errorf("%d records in memory, want %d", len(got), last)
	}
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		last = h.Add(record(int(last) + 1)).Seq
		for h.written.Waiting() > 0 {
			time.Sleep(time.Millisecond)
		}
		if got, bad, err := read(path); err == nil && bad == 0 && len(got) == int(last) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file is not whole again; log %s", &log)
		}
		time.Sleep(100 * time.Millisecond) // each record is 400 bytes of 64 KiB
	}
	h.Close(patience)
	if n := strings.Count(log.String(), "not kept over a restart"); n != 1 {
		t.Errorf("the log says it %d times, want once:\n%s", n, &log)
	}
	if !strings.Contains(log.String(), "records came faster than the disk took them") {
		t.Errorf("the log does not say how many were late:\n%s", &log)
	}
}

// A disk that does not answer holds up neither who adds a record nor the end.
func TestHangingDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// Who opens it for writing waits for a reader.
	if err := unix.Mkfifo(path+".new", 0o600); err != nil {
		t.Fatal(err)
	}
	const all = 10 * Kept
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := range all {
			h.Add(record(n))
		}
		for h.Lost() == 0 {
			h.Add(record(all))
		}
		h.Close(10 * time.Millisecond)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("a call waits for the disk")
	}
	if got := h.Last(Kept); len(got) != Kept || got[Kept-1].Seq < all {
		t.Errorf("%d records in memory, the newest is %d", len(got), got[len(got)-1].Seq)
	}
	reader, err := os.OpenFile(path+".new", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
}
