//go:build zoo

package zoo

import (
	"fmt"
	"testing"
	"time"
)

// One client with one connection closes a circuit by the calls that it makes one after the other, and none of them fails.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	const (
		failures = 3
		pause    = 100 // milliseconds; the agent takes a fraction of it to close the circuit after the last probe
		further  = 20  // calls after the circuit has closed
	)
	s := newStage(t)
	type pair struct {
		client
		server *serving
	}
	var pairs []pair
	for _, c := range clients() {
		if c.lives {
			pairs = append(pairs, pair{c, s.serve(c.kind())})
		}
	}
	s.startAgent(rejects, fmt.Sprintf("trip: [{consecutiveFailures: %d}]", failures), "open: {duration: 1s, backoff: none}", "halfOpen: {calls: 3}")
	t.Run("clients", func(t *testing.T) {
		for _, p := range pairs {
			t.Run("client="+p.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				fault := "do=status=500"
				if p.grpc {
					fault = "do=code=14"
				}
				r := s.call(t, p.client, p.server.target, fmt.Sprintf("pause=%d", pause), "do=size=10")
				r.await("it made a call", func(calls []call) bool { return len(calls) > 0 })
				s.call(t, p.client, p.server.target, "calls=20", "at-once=4", fault).all() // some are rejected
				opened := s.changed(p.server, "open", began)
				closed := s.changed(p.server, "closed", opened)
				r.await("it made calls again", func(calls []call) bool { return countAfter(calls, closed) >= further })
				var rejected, probes int
				for _, one := range r.stop() {
					switch success := p.succeeded(one); {
					case one.began().Before(opened):
						if !success && !p.isRejected(one, false) {
							t.Errorf("%s: lost", one)
						}
					case success && one.began().Before(closed):
						probes++
					case !success && (probes > 0 || one.began().After(closed)):
						t.Errorf("%s: failed after the first probe", one)
					case !success && !p.isRejected(one, false):
						t.Errorf("%s: lost", one)
					case !success:
						rejected++
					}
				}
				if rejected == 0 || probes != 3 {
					t.Errorf("%d calls rejected, then %d probes; want some, and 3", rejected, probes)
				}
				var to []string
				for _, change := range s.agent.Transitions() {
					if change.Backend == p.server.target {
						to = append(to, change.To)
					}
				}
				if got := fmt.Sprint(to); got != "[open half-open closed]" {
					t.Errorf("the circuit became %s, want [open half-open closed]", got)
				}
			})
		}
	})
}
