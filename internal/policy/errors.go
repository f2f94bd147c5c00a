package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a policy file. Line and Column count from 1; Line 0 means the file as a whole.
type Position struct {
	File   string
	Line   int
	Column int
}

// String returns FILE:LINE:COLUMN, or FILE.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Error is one thing that is wrong, or suspicious, in a policy file.
type Error struct {
	Position
	Path    string // such as policies[2].window.size; may be empty
	Message string
	Cause   error // what the operating system said, or nil
}

// Error returns FILE:LINE:COLUMN: PATH: MESSAGE.
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{e.Position.String(), e.Path, e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errors are all that is wrong with a set of policy files, in the order of their places.
type Errors []*Error

// Error returns the errors, one a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors, for errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

// arrange sorts by place and removes repetitions: what is wrong in defaults is found again in each policy.
func (es Errors) arrange() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(a.compare(b.Position), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(es, func(a, b *Error) bool {
		return a.Position == b.Position && a.Path == b.Path && a.Message == b.Message
	})
}
