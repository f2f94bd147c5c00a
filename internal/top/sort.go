package top

import (
	"cmp"
	"slices"
)

// orders are the sort orders, by their keys.
var orders = []struct {
	key, name string
	compare   func(x, y *row) int
}{
	{"s", "state", func(x, y *row) int { return cmp.Compare(urgency(x.State), urgency(y.State)) }},
	{"r", "requests", func(x, y *row) int { return cmp.Compare(latest(y.requests), latest(x.requests)) }},
	{"a", "rejected", func(x, y *row) int { return cmp.Compare(latest(y.away), latest(x.away)) }},
	{"f", "failed", func(x, y *row) int { return cmp.Compare(value(y.Window.FailureRate), value(x.Window.FailureRate)) }},
	{"l", "latency", func(x, y *row) int { return cmp.Compare(value(y.LatencyP99), value(x.LatencyP99)) }},
	{"n", "name", func(x, y *row) int { return 0 }},
}

func urgency(state string) int {
	return slices.Index([]string{"open", "half-open", "forced-open", "disabled", "closed"}, state)
}

func value(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}

// sorted returns the rows in an order; equal ones by name, so that their order is stable.
func sorted(rows map[key]*row, order int) []*row {
	all := make([]*row, 0, len(rows))
	for _, r := range rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(x, y *row) int {
		return cmp.Or(orders[order].compare(x, y), cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Backend, y.Backend),
			cmp.Compare(x.Direction, y.Direction))
	})
	return all
}
