package report

import (
	"fmt"
	"math"

	"github.com/cbagent/cbagent/bench/row"
)

// Verdict says how a goal stands.
type Verdict string

// Verdicts. A goal is met or missed when the whole interval lies on one side of its limit.
const (
	Met         Verdict = "met"
	Missed      Verdict = "**missed**"
	NotResolved Verdict = "not resolved"
	NotMeasured Verdict = "not measured"
)

// Goal is one thing that the project wants to show.
type Goal struct {
	Name     string
	Want     string
	Limit    float64
	AtLeast  bool // the number is to be at least Limit; else at most
	reaches  bool // it is enough that the interval reaches the limit: what is wanted is that no difference can be told
	estimate func(Set) (row.Estimate, error)
}

// Judgement is how a goal stands in one run.
type Judgement struct {
	Goal
	row.Estimate
	Verdict Verdict
	Why     string // it was not measured
}

// Judge judges all goals.
func Judge(s Set) []Judgement {
	var all []Judgement
	for _, g := range goals {
		e, err := g.estimate(s)
		j := Judgement{Goal: g, Estimate: e}
		if err != nil {
			j.Verdict, j.Why = NotMeasured, err.Error()
		} else {
			j.Verdict = g.judge(e)
		}
		all = append(all, j)
	}
	return all
}

// fewest rounds of which an interval means anything.
const fewest = 5

func (g Goal) judge(e row.Estimate) Verdict {
	low, high := e.Low, e.High
	if e.Rounds < fewest || math.IsNaN(low) || math.IsNaN(high) {
		return NotResolved
	}
	if g.AtLeast {
		low, high = -high, -low
	}
	limit := g.Limit
	if g.AtLeast {
		limit = -limit
	}
	switch {
	case high <= limit, g.reaches && low <= limit:
		return Met
	case low > limit:
		return Missed
	}
	return NotResolved
}

// number writes an estimate.
func number(e row.Estimate) string {
	if math.IsNaN(e.Value) {
		return "-"
	}
	if e.Low == e.High || math.IsNaN(e.Low) {
		return short(e.Value)
	}
	return fmt.Sprintf("%s (%s to %s)", short(e.Value), short(e.Low), short(e.High))
}

// short writes a number with three digits that count.
func short(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 1000:
		return thousands(v)
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// thousands writes a large number with separators.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", math.Abs(v))
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	if v < 0 {
		return "-" + text
	}
	return text
}
