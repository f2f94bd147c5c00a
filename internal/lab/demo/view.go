package demo

import (
	"fmt"
	"io"
	"time"
)

// View shows a run while it goes on. Its methods are called from one goroutine.
type View interface {
	// Say shows an event of the run, which stays to be read.
	Say(text string)
	// Show shows the moment; it is called ten times a second.
	Show(Snapshot)
	// Close ends the view and leaves the terminal as it was.
	Close() error
}

// Lines is the view for output that is no terminal: a line for each event, and one each second.
type Lines struct {
	out  io.Writer
	last time.Duration // elapsed time of the last line of rates
}

// NewLines returns a view that prints lines.
func NewLines(out io.Writer) *Lines { return &Lines{out: out} }

// Say prints the event.
func (l *Lines) Say(text string) { fmt.Fprintln(l.out, text) }

// Show prints a line of rates once a second.
func (l *Lines) Show(s Snapshot) {
	if s.Elapsed-l.last < time.Second {
		return
	}
	l.last = s.Elapsed.Truncate(time.Second)
	fmt.Fprintf(l.out, "%5.1fs %-9s", s.Elapsed.Seconds(), s.Phase)
	for _, b := range s.Backends {
		fmt.Fprintf(l.out, "  %s %s:", b.Name, b.State)
		for _, c := range b.counts() {
			if c.n > 0 {
				fmt.Fprintf(l.out, " %d/s %s", c.n, c.what)
			}
		}
	}
	fmt.Fprintln(l.out)
}

// Close does nothing.
func (l *Lines) Close() error { return nil }

// count is a number of requests in a second with the same outcome.
type count struct {
	n    int
	what string
}

// counts returns the rates of a backend in the order in which they are shown.
func (b BackendRates) counts() [3]count {
	return [3]count{{b.OK, "ok"}, {b.Failed, "failed"}, {b.Kernel, "answered by the kernel"}}
}
