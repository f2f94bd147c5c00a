// Package agenttest runs agents for tests and judges them when they end: an agent that needed its self-repair, or that
// logged a warning which the test did not announce, fails the test.
package agenttest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Agent is an agent of a test. It is stopped and judged when the test ends.
type Agent struct {
	*agentproc.Process
	node    *netlab.Namespace
	metrics string // address; empty: none
	pinned  bool

	last   sync.Once // guards the last read of the counters
	counts ringCounts
	err    error // why they are not known

	mu        sync.Mutex
	announced []announcement
	killed    bool
}

type announcement struct {
	line    *regexp.Regexp
	certain bool
}

// Start starts an agent as agentproc.Start does; it need not be ready when Start returns.
func Start(t testing.TB, node *netlab.Namespace, command ...string) *Agent {
	t.Helper()
	p, err := agentproc.Start(node, command...)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Process: p, node: node, metrics: metricsAddress(command), pinned: slices.Contains(command, "--bpffs")}
	t.Cleanup(func() {
		t.Helper()
		err := a.Stop()
		a.mu.Lock()
		defer a.mu.Unlock()
		if err != nil && !a.killed {
			t.Error(err)
		}
		for _, fault := range a.faults() {
			t.Error(fault)
		}
	})
	return a
}

// metricsAddress returns the address of the agent's metrics.
func metricsAddress(command []string) string {
	if i := slices.Index(command, "--metrics-address"); i >= 0 && i+1 < len(command) {
		return command[i+1]
	}
	return "127.0.0.1:9464"
}

// Expect announces log lines of level WARN or ERROR that are certain to come. Each pattern is a regular expression that
// matches a part of a line, which is a JSON object. It may be called until the test ends.
func (a *Agent) Expect(patterns ...string) { a.announce(true, patterns) }

// Allow announces log lines of level WARN or ERROR that may come, in the form of Expect.
func (a *Agent) Allow(patterns ...string) { a.announce(false, patterns) }

// WithoutMetrics declares that the agent cannot serve its metrics, so that its counters are not checked.
func (a *Agent) WithoutMetrics() { a.metrics = "" }

func (a *Agent) announce(certain bool, patterns []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range patterns {
		a.announced = append(a.announced, announcement{line: regexp.MustCompile(p), certain: certain})
	}
}

// Stop ends the agent as agentproc.Process.Stop does, after a last read of its counters.
func (a *Agent) Stop() error {
	a.look()
	return a.Process.Stop()
}

// Kill ends the agent with SIGKILL, after a last read of its counters. Its exit status is no fault.
func (a *Agent) Kill() {
	a.look()
	a.mu.Lock()
	a.killed = true
	a.mu.Unlock()
	a.Process.Kill()
}

// lookWithin is the time limit of the last read of an agent's counters.
const lookWithin = 5 * time.Second

// look reads the counters if the agent is running.
func (a *Agent) look() {
	a.last.Do(func() {
		if a.metrics == "" || !a.Ready() || a.HasEnded() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookWithin)
		defer cancel()
		a.counts, a.err = readCounts(ctx, a.node, a.metrics)
		if a.HasEnded() {
			a.err = nil
		}
	})
}

// unpinned is the warning of an agent whose circuits do not outlive it.
var unpinned = regexp.MustCompile("without --bpffs a restart of the agent closes all circuits")

// faults returns the faults of the agent that fail a test.
func (a *Agent) faults() []string {
	announced := a.announced
	if !a.pinned {
		announced = append(announced, announcement{line: unpinned, certain: a.Ready()})
	}
	faults := judge(a.counts, a.Warnings(), announced)
	if a.err != nil {
		faults = append(faults, fmt.Sprintf("the agent's counters at its end are not known: %v", a.err))
	}
	return faults
}

// judge compares an agent's counters and log with the announced lines.
func judge(counts ringCounts, warnings []string, announced []announcement) (faults []string) {
	if counts.recovered > 0 && counts.lost == 0 {
		faults = append(faults, fmt.Sprintf("the agent recovered %v events although the ring lost none", counts.recovered))
	}
	came := make([]bool, len(announced))
	for _, line := range warnings {
		known := false
		for i, n := range announced {
			if n.line.MatchString(line) {
				known, came[i] = true, true
			}
		}
		if !known {
			faults = append(faults, "the agent logged, unannounced: "+line)
		}
	}
	for i, n := range announced {
		if n.certain && !came[i] {
			faults = append(faults, fmt.Sprintf("the agent did not log %q", n.line))
		}
	}
	return faults
}

// StartInVain starts an agent that cannot start, and returns its error; nil if it is ready within the time.
func StartInVain(t testing.TB, node *netlab.Namespace, within time.Duration, command ...string) error {
	t.Helper()
	p, err := agentproc.Start(node, command...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return p.AwaitReady(ctx)
}
