//go:build zoo

package zoo

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// When a circuit opens, calls in flight on open connections get the server's response, and later ones the policy's answer. A call
// may be cut off that is still in flight a second later: the frames by which some clients ask for more of a long response are
// withheld. The test measures time, and so runs alone.
func TestTakeover(t *testing.T) {
	const (
		before = 200 // calls, at least
		after  = 50
		grace  = time.Second // of calls in flight
		// The client's TCP sends the withheld packet again after 0.2, 0.6, 1.4 and 3 s.
		limit = 3 * time.Second
	)
	s := newStage(t)
	type load struct {
		client
		do     string
		server *serving
	}
	var loads []load
	for _, do := range []string{"size=3000", "size=300000", "size=3000,delay=10"} {
		for _, c := range clients() {
			if c.lives {
				loads = append(loads, load{c, do, s.serve(c.kind())})
			}
		}
	}
	s.startAgent(rejects)
	t.Run("clients", func(t *testing.T) {
		for _, l := range loads {
			t.Run("client="+l.name+"/"+l.do, func(t *testing.T) {
				t.Parallel()
				defer working()()
				r := s.call(t, l.client, l.server.target, "at-once=16", "do="+l.do)
				r.await("it was at work", func(calls []call) bool { return len(calls) >= before })
				began := time.Now()
				s.override(control.Override{Action: "open", Target: "zoo/" + l.server.target, Reason: "a test"})
				opened := s.changed(l.server, "forced-open", began)
				r.await("it was rejected", func(calls []call) bool { return countAfter(calls, opened) >= after })
				cut := 0
				for _, one := range r.stop() {
					rejected := l.isRejected(one, false)
					switch {
					case !rejected && !l.succeeded(one) && one.ended().After(opened.Add(grace)) && one.began().Before(opened):
						cut++
					case !rejected && !l.succeeded(one):
						t.Errorf("%s: lost", one)
					case rejected && one.ended().Before(opened):
						t.Errorf("%s: rejected by a closed circuit", one)
					case !rejected && one.began().After(opened):
						t.Errorf("%s: admitted by an open circuit", one)
					case one.latency() > limit:
						t.Errorf("%s: want %s at most", one, limit)
					}
				}
				if cut > 16 {
					t.Errorf("%d calls were cut off, and 16 were in flight", cut)
				}
				t.Logf("%d calls were cut off", cut)
			})
		}
	})
}
