package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cbagent/cbagent/internal/view"
)

// read returns the records of a file and how many of its lines are none. A file that is not there is empty.
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

// file is the history's file, open for appending.
type file struct {
	path  string
	f     *os.File
	lines int
	last  uint64 // number of the newest record in it
}

// create writes the records to a new file, which takes the place of the old one at once, and leaves it open.
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

func appendTo(w *bufio.Writer, r *view.Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// write puts what comes through the queue into the file, and rewrites it when most of it is no longer kept. A disk that
// fails is told of once; the records in memory are not touched by it.
func (h *History) write(f *file) {
	defer func() { _ = f.f.Close() }()
	w := bufio.NewWriter(f.f)
	failed := false
	for r := range h.queue {
		if r.Seq <= f.last {
			continue // rewritten with the others already
		}
		err := appendTo(w, &r)
		f.lines, f.last = f.lines+1, r.Seq
		if err == nil && len(h.queue) == 0 {
			err = w.Flush()
		}
		if err == nil && f.lines >= 2*Kept {
			err = w.Flush()
			if again, e := create(f.path, h.Last(Kept)); e != nil {
				err = errors.Join(err, e)
			} else {
				_ = f.f.Close()
				*f = *again
			}
			w.Reset(f.f)
		}
		if err != nil {
			h.lost.Add(1)
			w.Reset(f.f)
			if !failed {
				h.log.Error("the history is not kept over a restart", "file", f.path, "error", err)
			}
		}
		failed = err != nil
	}
	if err := w.Flush(); err != nil && !failed {
		h.log.Error("the history is not kept over a restart", "file", f.path, "error", err)
	}
}
