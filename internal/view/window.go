package view

import "github.com/cbagent/cbagent/internal/breaker"

// NewWindow converts a metric.
func NewWindow(m breaker.Metric) Window {
	w := Window{Outcomes: m.Total, Failures: m.Failures, Slow: m.Slow}
	if r, ok := m.FailureRate(); ok {
		w.FailureRate = &r
	}
	if r, ok := m.SlowRate(); ok {
		w.SlowRate = &r
	}
	if ms, ok := m.AvgMillis(); ok {
		w.AvgLatency = &ms
	}
	return w
}
