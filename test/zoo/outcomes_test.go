//go:build zoo

package zoo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// outcomeOf names the outcome that an agent counts for a result that a server counts.
func outcomeOf(result string) string {
	codes := []string{"ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists", "permission-denied",
		"resource-exhausted", "failed-precondition", "aborted", "out-of-range", "unimplemented", "internal", "unavailable", "data-loss", "unauthenticated"}
	kind, number, _ := strings.Cut(result, "-")
	var n int
	_, _ = fmt.Sscan(number, &n) // of this package's results
	switch {
	case result == "gone":
		return "aborted"
	case result == "reset-7":
		return "h2-refused"
	case kind == "reset":
		return "h2-reset"
	case kind == "grpc":
		return "grpc-" + codes[n]
	}
	return result
}

// outcomesOf returns a circuit's outcomes, statuses one by one.
func outcomesOf(c control.Circuit) map[string]int {
	all := map[string]int{}
	for name, n := range c.Outcomes {
		if !strings.HasSuffix(name, "xx") {
			all[name] = int(n)
		}
	}
	for status, n := range c.Responses {
		all[status] = int(n)
	}
	return all
}

// The agent counts each call as the server does that answers it.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const rounds = 50
	s := newStage(t)
	type pair struct {
		client
		server *serving
	}
	var pairs []pair
	for _, c := range clients() {
		for _, kind := range servers() {
			if c.suits(kind) {
				pairs = append(pairs, pair{c, s.serve(kind)})
			}
		}
	}
	s.startAgent("trip: [{consecutiveFailures: 100000}]") // never
	t.Run("pairs", func(t *testing.T) {
		for _, p := range pairs {
			t.Run(p.name+"/"+p.server.name, func(t *testing.T) {
				t.Parallel()
				orders := p.orders(p.server.server)
				if p.server.name == "node" && (p.cancels || p.once) {
					orders = append(slices.Clone(orders), "reset=8")
				}
				if p.server.name == "node" && p.once {
					orders = append(orders, "reset=7")
				}
				calls := rounds * len(orders)
				made := s.call(t, p.client, p.server.target, fmt.Sprintf("calls=%d", calls), "at-once=16", "do="+strings.Join(orders, "+")).all()
				if len(made) != calls {
					t.Errorf("%d calls, want %d", len(made), calls)
				}
				want := map[string]int{}
				for result, n := range p.server.counts() {
					want[outcomeOf(result)] += n
				}
				var got map[string]int
				for deadline := time.Now().Add(patience / 4); !maps.Equal(got, want) && time.Now().Before(deadline); {
					got = outcomesOf(s.circuit(p.server))
					// At the deadline of a call this server resets it, as its client does. It resets no others.
					if n := got["h2-reset"]; n > 0 && p.server.name == "grpc-go" {
						got["aborted"] += n
						delete(got, "h2-reset")
					}
				}
				if !maps.Equal(got, want) {
					t.Errorf("the agent counted %v, the server %v", got, want)
				}
			})
		}
	})
}
