// Package nearest finds the existing names that are similar to a given one.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// Names returns up to three of the names that are most like what was given, the best first: those that contain it, or
// differ from it in less than half of its letters. There may be none.
func Names(given string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var all []candidate
	g := strings.ToLower(given)
	for _, name := range names {
		n := strings.ToLower(name)
		d := distance(g, n)
		if g != "" && strings.Contains(n, g) {
			d = 0
		}
		if d <= len(g)/2 {
			all = append(all, candidate{name, d})
		}
	}
	slices.SortFunc(all, func(x, y candidate) int { return cmp.Or(x.distance-y.distance, cmp.Compare(x.name, y.name)) })
	var best []string
	for _, c := range all {
		if len(best) < 3 && !slices.Contains(best, c.name) {
			best = append(best, c.name)
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := left
			if a[i] != b[j] {
				replace++
			}
			left = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
