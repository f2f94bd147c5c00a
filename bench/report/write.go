package report

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Write draws the plots of a run into a folder and writes report.md beside them.
func Write(s Set, folder string) error {
	plots, err := Plots(s, folder)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What the bench measured\n\nMade of the rows in this folder by `bench report`.\n\n## Goals\n\n")
	all := Judge(s)
	Goals(&b, all)
	Unmeasured(&b, all)
	fmt.Fprintf(&b, "\n## Machine\n\n")
	Machine(&b, s)
	fmt.Fprintf(&b, "\n## Plots\n\n")
	for _, p := range plots {
		fmt.Fprintf(&b, "![%s](%s)\n", strings.TrimSuffix(p, ".svg"), p)
	}
	fmt.Fprintf(&b, "\n## Medians of all rounds\n")
	Tables(&b, s)
	if err := os.WriteFile(filepath.Join(folder, "report.md"), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// Machine writes where the run was made: all parts of a run are of one machine.
func Machine(b *bytes.Buffer, s Set) {
	names := order(s)
	if len(names) == 0 {
		return
	}
	h := s[names[0]].Host
	fmt.Fprintf(b, "%d cores of %s, %d MB, Linux %s.\n", h.Cores, h.CPU, h.MemoryMB, h.Kernel)
	for _, peer := range slices.Sorted(maps.Keys(h.Versions)) {
		fmt.Fprintf(b, "%s: %s.\n", peer, h.Versions[peer])
	}
}

// Refresh replaces what lies between the marks of a page: "<!-- goals -->" and "<!-- end goals -->", and the same with
// machine. All else of the page is written by people.
func Refresh(s Set, page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("refresh the page: %w", err)
	}
	for _, block := range []struct {
		name  string
		write func(*bytes.Buffer)
	}{
		{"goals", func(b *bytes.Buffer) { Goals(b, Judge(s)) }},
		{"machine", func(b *bytes.Buffer) { Machine(b, s) }},
	} {
		begin, end := []byte("<!-- "+block.name+" -->\n"), []byte("<!-- end "+block.name+" -->")
		at, to := bytes.Index(text, begin), bytes.Index(text, end)
		if at < 0 || to < at {
			return fmt.Errorf("refresh %s: it has no %q and %q", page, begin, end)
		}
		var b bytes.Buffer
		block.write(&b)
		text = slices.Concat(text[:at+len(begin)], b.Bytes(), text[to:])
	}
	if err := os.WriteFile(page, text, 0o644); err != nil {
		return fmt.Errorf("refresh the page: %w", err)
	}
	return nil
}
