// Package row is how the parts of the bench write down what they measured, and what is computed from it: medians, and the
// interval in which a number computed from paired rounds lies. A row is one measurement of one peer in one
// round; everything that is printed or plotted is computed from rows, so whoever has the files can compute it again.
package row

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Row is what one peer did with one case in one round. Rows of the same case and round were measured next to each
// other and are a pair.
type Row struct {
	Case   string             `json:"case"` // what was done: "keep-alive/1"
	Peer   string             `json:"peer"` // by whom: "cbagent", "haproxy", "direct"
	Round  int                `json:"round"`
	Values map[string]float64 `json:"values"` // by name, which ends in the unit: "p50_us", "rss_mb", "leaked"
}

// File is what one part measured in one run.
type File struct {
	Part    string    `json:"part"`
	About   string    `json:"about"`   // one sentence: what was done to whom
	Command string    `json:"command"` // the command that measures it again
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Quick   bool      `json:"quick"`  // a short run, of which only the ratios mean anything
	Host    Host      `json:"host"`   // where
	Left    []string  `json:"left"`   // peers and cases that could not be had, and why
	Rounds  int       `json:"rounds"` // that were asked for
	Rows    []Row     `json:"rows"`
}

// Write writes the file as JSON, one row a line.
func (f *File) Write(path string) error {
	rows := f.Rows
	head := *f
	head.Rows = nil
	text, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	const null = "null\n}"
	text = append(text[:len(text)-len(null)], '[')
	for i, r := range rows {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write row %d of %s: %w", i, path, err)
		}
		text = append(append(text, "\n    "...), line...)
		if i < len(rows)-1 {
			text = append(text, ',')
		}
	}
	text = append(text, "\n  ]\n}\n"...)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write the rows: %w", err)
	}
	return nil
}

// Read reads what Write wrote.
func Read(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	f := &File{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return f, nil
}

// Add adds a row.
func (f *File) Add(r Row) { f.Rows = append(f.Rows, r) }

// Cases returns the cases in the order of their first rows.
func (f *File) Cases() []string {
	var all []string
	for _, r := range f.Rows {
		if !slices.Contains(all, r.Case) {
			all = append(all, r.Case)
		}
	}
	return all
}

// Peers returns the peers of a case in the order of their first rows.
func (f *File) Peers(of string) []string {
	var all []string
	for _, r := range f.Rows {
		if r.Case == of && !slices.Contains(all, r.Peer) {
			all = append(all, r.Peer)
		}
	}
	return all
}

// Values returns a value of each round that has it, by round.
func (f *File) Values(of, peer, value string) map[int]float64 {
	got := map[int]float64{}
	for _, r := range f.Rows {
		if v, ok := r.Values[value]; ok && r.Case == of && r.Peer == peer {
			got[r.Round] = v
		}
	}
	return got
}
