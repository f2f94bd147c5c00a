package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// WriteText writes the report to be read by people.
func (r Report) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	verdict := "the breaker did its job"
	if !r.OK {
		verdict = "the breaker did NOT do its job"
	}
	fmt.Fprintf(w, "\n%s\n\n", verdict)
	fmt.Fprintf(w, "  b2 began to fail; its circuit opened after\t%.1f ms\n", r.OpenedAfterMs)
	fmt.Fprintf(w, "  requests that reached b2 while it failed\t%d\n", r.LeakedRequests)
	fmt.Fprintf(w, "  requests that the kernel answered instead\t%d, half of them within %.1f us\n", r.AnsweredByKernel, r.AnswerP50Us)
	fmt.Fprintf(w, "  failed requests to the other backends\t%d\n", r.OtherBackendsFailed)
	fmt.Fprintf(w, "  b2 healed; its circuit closed after\t%.1f ms\n\n", r.ClosedAfterMs)

	outcomes := map[string]bool{}
	for _, p := range r.Phases {
		for outcome := range p.ByStatus {
			outcomes[outcome] = true
		}
	}
	columns := slices.Sorted(maps.Keys(outcomes))
	fmt.Fprint(w, "  phase\trequests")
	for _, c := range columns {
		fmt.Fprintf(w, "\t%s", c)
	}
	fmt.Fprintln(w)
	for _, p := range r.Phases {
		fmt.Fprintf(w, "  %s\t%d", p.Name, p.Requests)
		for _, c := range columns {
			fmt.Fprintf(w, "\t%d", p.ByStatus[c])
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
