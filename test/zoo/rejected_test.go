//go:build zoo

package zoo

import (
	"fmt"
	"testing"
	"time"
)

// What rejected clients get.
const (
	closedBody    = `{"zoo":"closed"}`
	closedMessage = "the zoo is closed"
)

// rejects are the lines of a policy for these.
var rejects = fmt.Sprintf(`reject: {body: '%s', message: "%s"}`, closedBody, closedMessage)

// isRejected reports whether a call got the policy's answer, as far as its client shows it.
func (c client) isRejected(got call, head bool) bool {
	body := closedBody
	if head {
		body = ""
	}
	switch {
	case c.grpc:
		return got.Code == 14 && got.Message == closedMessage && got.Reason != ""
	case !c.bodies:
		return got.Status == 503
	}
	return got.Status == 503 && got.Reason != "" && got.Body == body && got.Error == ""
}

// A client of an open circuit gets the policy's answer to each call within a second. The test measures time, and so runs alone.
func TestRejectedNew(t *testing.T) {
	s := newStage(t)
	ofGRPC, ofHTTP := s.serve(kind("grpc-go")), s.serve(kind("x-net"))
	s.startAgent("mode: forced-open", rejects)
	t.Run("clients", func(t *testing.T) {
		for _, c := range clients() {
			if c.upgrade && !c.bodies {
				continue // it says nothing of an answer that is no Upgrade
			}
			server := ofHTTP
			if c.grpc {
				server = ofGRPC
			}
			for _, l := range []struct {
				name          string
				calls, atOnce int
				body          int
				head          bool
			}{
				{name: "1", calls: 1000, atOnce: 1}, {name: "16", calls: 1000, atOnce: 16},
				{name: "100kB", calls: 200, atOnce: 16, body: 100_000}, {name: "5MB", calls: 8, atOnce: 1, body: 5_000_000},
				{name: "HEAD", calls: 200, atOnce: 4, head: true},
			} {
				if l.body > 0 && !c.posts || l.head && c.grpc {
					continue
				}
				t.Run("client="+c.name+"/"+l.name, func(t *testing.T) {
					t.Parallel()
					defer working()()
					calls := l.calls
					if c.batches > 0 {
						calls = min(calls, c.batches*l.atOnce)
					}
					args := []string{fmt.Sprintf("calls=%d", calls), fmt.Sprintf("at-once=%d", l.atOnce), fmt.Sprintf("body=%d", l.body)}
					if l.head {
						args = append(args, "method=HEAD")
					}
					got := s.call(t, c, server.target, args...).all()
					var slowest time.Duration
					for _, one := range got {
						if !c.isRejected(one, l.head) {
							t.Errorf("%s: not the policy's answer", one)
						}
						slowest = max(slowest, one.latency())
					}
					if len(got) != calls || slowest > time.Second {
						t.Errorf("%d calls, the slowest in %s; want %d, each within a second", len(got), slowest, calls)
					}
				})
			}
		}
	})
	for _, server := range s.servers {
		if got := server.counts(); len(got) > 0 {
			t.Errorf("%s got calls: %v", server.name, got)
		}
	}
}
