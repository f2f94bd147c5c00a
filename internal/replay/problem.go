package replay

import (
	"fmt"
	"strings"
)

// Problem is what is wrong with one line of a trace.
type Problem struct {
	Line int // from 1
	Err  error
}

// TraceError says all that is wrong with a trace, as far as it goes.
type TraceError struct {
	Problems []Problem // at most twenty
	More     bool      // there are more
}

// Error returns one line for each problem: "line 7: t: must not go back, got 1 after 2".
func (e *TraceError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "line %d: %v", p.Line, p.Err)
	}
	if e.More {
		b.WriteString("\nmore lines are wrong")
	}
	return b.String()
}

// add takes note of the errors of a line, and reports whether there is room for more.
func (e *TraceError) add(line int, err error) bool {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		if len(e.Problems) == maxProblems {
			e.More = true
			return false
		}
		e.Problems = append(e.Problems, Problem{Line: line, Err: err})
	}
	return true
}
