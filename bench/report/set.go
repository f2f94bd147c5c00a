// Package report computes what the rows of a run show: which goals are met, tables and plots. It measures nothing, so
// whoever has the rows gets the same report.
package report

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/cbagent/cbagent/bench/row"
)

// Set is the files of a run, by part.
type Set map[string]*row.File

// Load reads all files of a folder.
func Load(folder string) (Set, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	s := Set{}
	for _, path := range paths {
		f, err := row.Read(path)
		if err != nil {
			return nil, err
		}
		s[f.Part] = f
	}
	return s, nil
}

// pick is one value of one peer in one case.
type pick struct{ part, of, peer, value string }

func (p pick) String() string {
	return fmt.Sprintf("%s of %s in %s, %s", p.value, p.peer, p.part, p.of)
}

// estimate computes a number from picks, over the rounds that have all of them. f gets the values of each pick, in the
// order of the rounds that were drawn.
func (s Set) estimate(picks []pick, f func(values [][]float64) float64) (row.Estimate, error) {
	var byRound []map[int]float64
	var rounds []int
	for i, p := range picks {
		file := s[p.part]
		if file == nil {
			return row.Estimate{}, fmt.Errorf("%s was not measured", p.part)
		}
		values := file.Values(p.of, p.peer, p.value)
		if len(values) == 0 {
			return row.Estimate{}, fmt.Errorf("%s was not measured", p)
		}
		byRound = append(byRound, values)
		if i == 0 {
			rounds = slices.Sorted(maps.Keys(values))
		}
		rounds = slices.DeleteFunc(rounds, func(r int) bool { _, ok := values[r]; return !ok })
	}
	if len(rounds) == 0 {
		return row.Estimate{}, fmt.Errorf("no round has all of %v", picks)
	}
	drawn := make([][]float64, len(picks))
	return row.Bootstrap(len(rounds), func(which []int) float64 {
		for i := range picks {
			drawn[i] = drawn[i][:0]
			for _, w := range which {
				drawn[i] = append(drawn[i], byRound[i][rounds[w]])
			}
		}
		return f(drawn)
	}), nil
}

// median is that of one value.
func (s Set) median(p pick) (row.Estimate, error) {
	return s.estimate([]pick{p}, func(v [][]float64) float64 { return row.Median(v[0]) })
}

// ratio is the ratio of two medians.
func (s Set) ratio(of, to pick) (row.Estimate, error) {
	return s.estimate([]pick{of, to}, func(v [][]float64) float64 { return row.Median(v[0]) / row.Median(v[1]) })
}

// added is the ratio of what two peers add to a third's.
func (s Set) added(of, to, base pick) (row.Estimate, error) {
	return s.estimate([]pick{of, to, base}, func(v [][]float64) float64 {
		return row.Median(differences(v[0], v[2])) / row.Median(differences(v[1], v[2]))
	})
}

// differences are those of pairs.
func differences(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

// worst is the largest value of all rounds. It is what it is: no interval.
func (s Set) worst(picks ...pick) (row.Estimate, error) {
	worst := row.Estimate{}
	for i, p := range picks {
		e, err := s.estimate([]pick{p}, func(v [][]float64) float64 { return slices.Max(v[0]) })
		if err != nil {
			return e, err
		}
		if i == 0 || e.Value > worst.Value {
			worst.Value = e.Value
		}
		worst.Rounds += e.Rounds
	}
	worst.Low, worst.High = worst.Value, worst.Value
	return worst, nil
}
