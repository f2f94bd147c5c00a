package history

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/view"
)

// patience bounds every wait; only a failing test waits so long.
const patience = 10 * time.Second

func open(t *testing.T, path string, log *bytes.Buffer) *History {
	t.Helper()
	h, err := Open(path, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(patience) })
	return h
}

func record(n int) view.Record {
	value := float64(n)
	return view.Record{
		Time: time.Unix(int64(n), 0).UTC(), Kind: "transition", Policy: "orders", Backend: "192.0.2.7:8080", From: "closed", To: "open",
		Cause: view.CauseOutcome, Reason: "consecutiveFailures", Value: &value, Window: &view.Window{Outcomes: 5, Failures: 5},
	}
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var log bytes.Buffer
	h := open(t, path, &log)
	var want []view.Record
	for n := range 3 {
		want = append(want, h.Add(record(n)))
	}
	h.Close(patience)
	h = open(t, path, &log)
	if diff := cmp.Diff(want, h.Last(10)); diff != "" {
		t.Errorf("other records after a restart (-want +got):\n%s", diff)
	}
	if next := h.Add(record(3)); next.Seq != 4 {
		t.Errorf("the next record has number %d, want 4", next.Seq)
	}
	if got := h.Last(2); len(got) != 2 || got[0].Seq != 3 || got[1].Seq != 4 {
		t.Errorf("the last two are %+v", got)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

func TestOnlyTheLastAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var log bytes.Buffer
	h := open(t, path, &log)
	const all = 5*Kept + 7
	for n := range all {
		h.Add(record(n))
		// The queue is as long as a burst may be; the disk is given its time here.
		for h.written.Waiting() == Kept {
			runtime.Gosched()
		}
	}
	check := func() {
		t.Helper()
		got := h.Last(all)
		if len(got) != Kept || got[0].Seq != all-Kept+1 || got[Kept-1].Seq != all {
			t.Fatalf("%d records, %d to %d", len(got), got[0].Seq, got[len(got)-1].Seq)
		}
	}
	check()
	h.Close(patience)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(data, []byte("\n")); lines >= 2*Kept+1 {
		t.Errorf("the file has grown to %d lines", lines)
	}
	if h.Lost() > 0 || log.Len() > 0 {
		t.Errorf("%d lost, log %s", h.Lost(), &log)
	}
	h = open(t, path, &log)
	check()
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

func TestCrashCutsALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	text := `{"seq":7,"time":"2026-01-02T03:04:05Z","kind":"lease","cause":"lease"}` + "\n" + `{"seq":8,"time":"2026-01-`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := open(t, path, &log)
	if got := h.Last(10); len(got) != 1 || got[0].Seq != 7 {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(log.String(), "lines=1") {
		t.Errorf("log: %s", &log)
	}
	if r := h.Add(record(1)); r.Seq != 8 {
		t.Errorf("number %d, want 8", r.Seq)
	}
}

func TestFollowersNeverHoldUp(t *testing.T) {
	h := open(t, "", new(bytes.Buffer))
	h.Add(record(1))
	past, quick, err := h.Follow(10, 100)
	_, slow, errSlow := h.Follow(0, 1)
	if err != nil || errSlow != nil || len(past) != 1 {
		t.Errorf("%d records of the past, want 1", len(past))
	}
	for n := range 10 {
		h.Add(record(n))
	}
	if got := fmt.Sprint(quick.Missed(), slow.Missed(), slow.Missed()); got != "0 9 0" {
		t.Errorf("missed %s, want 0 9 0", got)
	}
	if now, missed, _ := h.Followers(); now != 2 || missed != 9 {
		t.Errorf("%d followers missed %d, want 2 and 9", now, missed)
	}
	slow.Close()
	slow.Close()
	h.Add(record(11))
	if r := <-slow.Records(); r.Seq != 2 {
		t.Errorf("the slow one got %d, want 2", r.Seq)
	}
	h.Close(patience)
	n := 0
	for range quick.Records() {
		n++
	}
	if n != 11 {
		t.Errorf("the quick one got %d, want 11", n)
	}
	quick.Close()
}

func TestFollowersAreBounded(t *testing.T) {
	h := open(t, "", new(bytes.Buffer))
	var all []*Follower
	for range MaxFollowers {
		_, f, err := h.Follow(0, 1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	if _, f, err := h.Follow(0, 1); f != nil || !errors.Is(err, ErrFollowers) {
		t.Errorf("one too many: %v, %v", f, err)
	}
	if now, _, rejected := h.Followers(); now != MaxFollowers || rejected != 1 {
		t.Errorf("%d followers, %d rejected", now, rejected)
	}
	all[0].Close()
	if _, _, err := h.Follow(0, 1); err != nil {
		t.Errorf("in the place of one that ended: %v", err)
	}
}

// A file that cannot be written at the start is written when it can be.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	path := filepath.Join(dir, "history.jsonl")
	var log bytes.Buffer
	h := open(t, path, &log)
	h.Add(record(1))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.Add(record(2))
	h.Close(patience)
	if n := strings.Count(log.String(), "not kept over a restart"); n != 1 {
		t.Errorf("the log says it %d times, want once: %s", n, &log)
	}
	if got, bad, err := read(path); len(got) != 2 || bad != 0 || err != nil {
		t.Errorf("the file has %d records, %d bad, %v; want 2", len(got), bad, err)
	}
}
