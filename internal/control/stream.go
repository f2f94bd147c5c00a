package control

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// stream writes JSON lines to a reader that may be slow. Its first error ends it: later calls do nothing.
type stream struct {
	control *http.ResponseController
	w       *bufio.Writer
	buffer  []byte
	err     error
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/jsonl")
	c := http.NewResponseController(w)
	// The server's time limit of a request must not end a stream: its client has sent all, and reads. This fails only for
	// writers without deadlines, which tests use.
	_ = c.SetReadDeadline(time.Time{})
	return &stream{control: c, w: bufio.NewWriterSize(w, 1<<16)}
}

// free returns a buffer for the next line.
func (s *stream) free() []byte { return s.buffer[:0] }

func (s *stream) write(line []byte) {
	s.buffer = line
	if s.err == nil {
		s.limit()
		_, s.err = s.w.Write(line)
	}
}

func (s *stream) encode(v any) {
	if s.err != nil {
		return
	}
	line, err := json.Marshal(v)
	if err != nil {
		s.err = err
		return
	}
	s.write(append(line, '\n'))
}

// records writes the newest records of a target.
func (s *stream) records(all []view.Record, t Target, most int) {
	var kept []*view.Record
	for i := range all {
		if t.Has(all[i].Policy, all[i].Backend) {
			kept = append(kept, &all[i])
		}
	}
	for _, rec := range kept[max(0, len(kept)-most):] {
		s.encode(rec)
	}
}

// flush sends what was written and returns the first error.
func (s *stream) flush() error {
	if s.err == nil {
		s.limit()
		s.err = s.w.Flush()
	}
	if s.err == nil {
		s.err = s.control.Flush()
	}
	return s.err
}

// limit sets the deadline of the next write. It fails only for writers without deadlines, which tests use.
func (s *stream) limit() { _ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) }
