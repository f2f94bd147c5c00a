// Package part is what the parts of the bench have in common.
package part

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/row"
)

// Part measures one thing.
type Part struct {
	Name   string // of its file in the results
	About  string // one sentence: what is done to whom
	Rounds int    // of a full run
	Quick  int    // of a quick one
	Run    func(ctx context.Context, r *Run) error
}

// Run is a run of a part.
type Run struct {
	Bench  *peer.Bench
	Rounds int
	Quick  bool
	Log    *slog.Logger
	File   *row.File
}

// Peers returns those of the kinds that can be had here. The others are noted in the file.
func (r *Run) Peers(all ...peer.Kind) []peer.Kind {
	var there []peer.Kind
	for _, k := range all {
		if err := peer.Missing(k); err != nil {
			r.LeftOut(err.Error())
			continue
		}
		there = append(there, k)
	}
	return there
}

// LeftOut notes what could not be measured, and why.
func (r *Run) LeftOut(why string) {
	if !slices.Contains(r.File.Left, why) {
		r.Log.Warn("left out", "why", why)
		r.File.Left = append(r.File.Left, why)
	}
}

// Add adds a row and tells of it.
func (r *Run) Add(of string, k string, round int, values map[string]float64) {
	r.File.Add(row.Row{Case: of, Peer: k, Round: round, Values: values})
	var text strings.Builder
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			text.WriteByte(' ')
		}
		fmt.Fprintf(&text, "%s=%.4g", name, values[name])
	}
	r.Log.Debug("row", "case", of, "peer", k, "round", round, "values", text.String())
}

// Turn rotates the order of peers from round to round, so that none always goes first.
func Turn[T any](all []T, round int) []T {
	at := round % max(1, len(all))
	turned := slices.Concat(all[at:], all[:at])
	if round/max(1, len(all))%2 == 1 {
		slices.Reverse(turned)
	}
	return turned
}
