//go:build zoo

package zoo

import (
	"fmt"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// When a circuit has closed, clients are back at once: none backs off, and none loses a call. The test measures time, and so
// runs alone.
func TestHealing(t *testing.T) {
	const (
		pause   = 50 * time.Millisecond // between a client's calls
		open    = 5 * time.Second
		back    = 100 * time.Millisecond // to the first success, more than the pause
		further = 20                     // calls after it
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
	s.startAgent(rejects)
	calling := make([]*running, len(pairs))
	for i, p := range pairs {
		calling[i] = s.call(t, p.client, p.server.target, "do=size=10", fmt.Sprintf("pause=%d", pause.Milliseconds()))
	}
	for _, r := range calling {
		r.await("it made a call", func(calls []call) bool { return len(calls) > 0 })
	}
	began := time.Now()
	s.override(control.Override{Action: "open", Target: "zoo", ForSeconds: open.Seconds(), Reason: "a test"})
	t.Run("clients", func(t *testing.T) {
		for i, p := range pairs {
			t.Run("client="+p.name, func(t *testing.T) {
				opened, closed := s.changed(p.server, "forced-open", began), s.changed(p.server, "closed", began)
				calling[i].await("it made calls again", func(calls []call) bool { return countAfter(calls, closed.Add(back+pause)) >= further })
				var rejected int
				var first time.Time
				for _, one := range calling[i].stop() {
					success := p.succeeded(one)
					switch {
					case !success && !p.isRejected(one, false):
						t.Errorf("%s: lost", one)
					case success && one.began().After(opened) && one.ended().Before(closed):
						t.Errorf("%s: admitted by an open circuit", one)
					case !success && !first.IsZero():
						t.Errorf("%s: rejected after the first success", one)
					case !success:
						rejected++
					case one.began().After(opened) && first.IsZero():
						first = one.ended()
					}
				}
				if took := first.Sub(closed); first.IsZero() || took > back+pause {
					t.Errorf("the first success came %s after the circuit closed, want %s at most", took, back+pause)
				}
				if most := int(open / pause); rejected < most/2 || rejected > most+1 {
					t.Errorf("%d calls rejected, want about %d", rejected, most)
				}
			})
		}
	})
}
