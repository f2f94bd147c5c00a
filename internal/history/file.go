package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// read returns the records of a file and the number of its unreadable lines. A missing file counts as empty.
func read(path string) (records []view.Record, bad int, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the history: %w", err)
	}
	for line := range bytes.Lines(data) {
		var r view.Record
		if json.Unmarshal(line, &r) != nil || r.Seq == 0 || len(records) > 0 && r.Seq <= records[len(records)-1].Seq {
			bad++
			continue
		}
		records = append(records, r)
	}
	return records, bad, nil
}

// retryEvery is the time from a failed write to the next attempt.
const retryEvery = time.Second

// errBehind means that a record is not written because of an earlier failure.
var errBehind = errors.New("the history's file cannot be written")

// file is the history's file, open for appending. It belongs to one goroutine.
type file struct {
	path  string
	f     *os.File
	lines int
	last  uint64    // number of the newest record in the file
	gap   bool      // the queue had no room for some records, which the file lacks
	retry time.Time // when to rewrite the file after a failure; zero: no write failed
}

// create writes the records to a new file, which atomically replaces the old one, and leaves it open.
func create(path string, records []view.Record) (*file, error) {
	temp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the history: %w", err)
	}
	w := bufio.NewWriter(temp)
	for i := range records {
		if err == nil {
			err = appendTo(w, &records[i])
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return nil, errors.Join(fmt.Errorf("write the history: %w", err), temp.Close())
	}
	new := &file{path: path, f: temp, lines: len(records)}
	if len(records) > 0 {
		new.last = records[len(records)-1].Seq
	}
	return new, nil
}

func appendTo(w io.Writer, r *view.Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// write appends a record. It rewrites the file when most of its records are no longer kept, and some time after a failure:
// then the file may end in half a line, and lacks the records since. A failure is logged once and does not affect the
// records in memory.
func (h *History) write(f *file, r *view.Record) error {
	if r.Seq <= f.last {
		return nil // rewritten with the others already
	}
	failed := !f.retry.IsZero()
	if failed && time.Now().Before(f.retry) {
		return errBehind
	}
	var err error
	if failed || f.lines+1 >= 2*Kept {
		err = h.rewrite(f)
	} else {
		err = appendTo(f.f, r)
		f.gap = f.gap || f.last != 0 && r.Seq != f.last+1
		f.lines, f.last = f.lines+1, r.Seq
	}
	return h.note(f, err)
}

// note records and logs the result of an attempt to write.
func (h *History) note(f *file, err error) error {
	failed := !f.retry.IsZero()
	if err == nil {
		f.retry = time.Time{}
		return nil
	}
	f.retry = time.Now().Add(retryEvery)
	if !failed {
		h.log.Error("the history is not kept over a restart", "file", f.path, "error", err)
	}
	return err
}

// rewrite replaces the file by one with all kept records.
func (h *History) rewrite(f *file) error {
	again, err := create(f.path, h.Last(Kept))
	if err != nil {
		return err
	}
	_ = f.f.Close()
	*f = *again
	return nil
}

// caughtUp completes the file when the disk is fast enough again.
func (h *History) caughtUp(f *file, lost uint64) {
	h.log.Warn("records came faster than the disk took them", "file", f.path, "late", lost)
	if f.gap {
		_ = h.note(f, h.rewrite(f)) // logged there
	}
}

// close completes a file that could not be written before, if that is possible now, and closes it.
func (h *History) close(f *file) {
	if f.gap || !f.retry.IsZero() {
		_ = h.note(f, h.rewrite(f))
	}
	_ = f.f.Close()
}
