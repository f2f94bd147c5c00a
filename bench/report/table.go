package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cbagent/cbagent/bench/row"
)

// column of a table: a value of each case and peer.
type column struct {
	title string
	value string
}

var (
	loads = []column{
		{"p50 us", "p50_us"}, {"p99 us", "p99_us"}, {"requests/s", "rate_rps"}, {"peer's CPU s per 100,000", "cpu_s_per_100k"},
		{"machine's CPU s per 100,000", "machine_s_per_100k"}, {"RSS MB", "rss_mb"},
	}
	rejections = []column{{"p50 us", "p50_us"}, {"p99 us", "p99_us"}, {"rejections/s", "rate_rps"}}
)

// shown are the values that the table of a part shows; of other parts all values are shown.
var shown = map[string][]column{
	"overhead":       loads,
	"grpc":           loads,
	"rejection":      rejections,
	"grpc-rejection": rejections,
	"containment": {
		{"sent", "sent"}, {"leaked", "leaked"}, {"contained after ms", "contain_ms"}, {"share of runs contained", "contained"},
		{"probes/s while open", "probes_rps"}, {"neither 200 nor 503", "hurt"}, {"recovered after ms", "recover_ms"},
	},
	"seeds": {
		{"share of 200", "share_200"}, {"p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"p99 of 200 ms", "p99_200_ms"}, {"mean ms", "mean_ms"},
	},
}

// Goals writes the table of the goals that were measured.
func Goals(w io.Writer, all []Judgement) {
	fmt.Fprintf(w, "| goal | wanted | measured (95 %% interval) | rounds | |\n|---|---|---|---|---|\n")
	for _, j := range all {
		if j.Verdict != NotMeasured {
			fmt.Fprintf(w, "| %s | %s | %s | %d | %s |\n", j.Name, j.Want, number(j.Estimate), j.Rounds, j.Verdict)
		}
	}
}

// Unmeasured lists the goals that were not measured, and why.
func Unmeasured(w io.Writer, all []Judgement) {
	for _, j := range all {
		if j.Verdict == NotMeasured {
			fmt.Fprintf(w, "\nNot measured: %s: %s\n", j.Name, j.Why)
		}
	}
}

// Tables writes a table of each part's medians.
func Tables(w io.Writer, s Set) {
	for _, name := range order(s) {
		f := s[name]
		fmt.Fprintf(w, "\n### %s\n\n%s", f.Part, f.About)
		fmt.Fprintf(w, "\n%s; %d rounds, %s to %s UTC; load averages before %s, after %s; others used %.2f cores just before.\n",
			"`"+f.Command+"`", f.Rounds, f.Began.Format("2006-01-02 15:04"), f.Ended.Format("15:04"),
			f.Host.LoadBefore, f.Host.LoadAfter, f.Host.Others)
		for _, left := range f.Left {
			fmt.Fprintf(w, "\nLeft out: %s\n", left)
		}
		table(w, s, f)
	}
}

// order returns the parts in the order in which they are told.
func order(s Set) []string {
	told := []string{"overhead", "grpc", "rejection", "grpc-rejection", "verdict", "containment", "seeds", "scale", "packets", "kernel", "breaker", "scrape"}
	names := slices.Sorted(maps.Keys(s))
	slices.SortStableFunc(names, func(a, b string) int { return place(told, a) - place(told, b) })
	return names
}

func place(in []string, name string) int {
	if at := slices.Index(in, name); at >= 0 {
		return at
	}
	return len(in)
}

func table(w io.Writer, s Set, f *row.File) {
	columns := shown[f.Part]
	if columns == nil {
		for _, name := range valueNames(f) {
			columns = append(columns, column{strings.ReplaceAll(name, "_", " "), name})
		}
	}
	fmt.Fprintf(w, "\n| case | peer |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|", len(columns)))
	for _, of := range f.Cases() {
		for _, peer := range f.Peers(of) {
			fmt.Fprintf(w, "| %s | %s |", of, peer)
			for _, c := range columns {
				fmt.Fprintf(w, " %s |", s.cell(f, of, peer, c.value))
			}
			fmt.Fprintln(w)
		}
	}
}

// cell is a median; of the values of loads also the ratio to direct.
func (s Set) cell(f *row.File, of, peer, value string) string {
	e, err := s.median(pick{f.Part, of, peer, value})
	if err != nil || math.IsNaN(e.Value) {
		return ""
	}
	text := short(e.Value)
	if (f.Part == "overhead" || f.Part == "grpc") && peer != "direct" && (value == "p50_us" || value == "rate_rps" || value == "machine_s_per_100k") {
		if r, err := s.ratio(pick{f.Part, of, peer, value}, pick{f.Part, of, "direct", value}); err == nil {
			text += ratioText(r)
		}
	}
	return text
}

// ratioText writes a ratio, or that it cannot be told from 1.
func ratioText(r row.Estimate) string {
	if !r.Resolved(1) {
		return fmt.Sprintf(" (x %s, not resolved)", short(r.Value))
	}
	return fmt.Sprintf(" (x %s)", short(r.Value))
}

func valueNames(f *row.File) []string {
	seen := map[string]bool{}
	for _, r := range f.Rows {
		for name := range r.Values {
			seen[name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Compare writes the goals' numbers of a run beside those of the recorded one.
func Compare(w io.Writer, now, recorded []Judgement) {
	fmt.Fprintf(w, "%-90s %-34s %s\n", "ratio", "now", "recorded")
	for i, j := range now {
		text := [2]string{}
		for k, one := range []Judgement{j, recorded[i]} {
			text[k] = number(one.Estimate)
			if one.Verdict == NotMeasured {
				text[k] = string(NotMeasured)
			}
		}
		fmt.Fprintf(w, "%-90s %-34s %s\n", j.Name, text[0], text[1])
	}
}
