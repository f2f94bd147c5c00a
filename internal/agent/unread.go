package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/tables"
)

// unreadEvery is the interval at which the agent looks for circuits whose connections carry no request.
const unreadEvery = 10 * time.Second

// Limits of the number of log lines about them, at one look and while the agent runs. The status and the metrics show all.
const (
	unreadPerLook = 10
	unreadPerRun  = 1000
)

// unread describes what the connections of a circuit begin with, if none has carried a request.
type unread struct {
	policy, direction, backend string
	counts                     [tables.Openings]uint64
}

// unreadKey identifies a message that is logged once.
type unreadKey struct {
	policy, backend string
	opening         tables.Opening
}

// unreadLog is what has been logged about circuits without requests. Only the event loop uses it.
type unreadLog struct {
	next   int64
	logged map[unreadKey]bool
}

// warnUnread logs which backends of http policies get connections and no requests. The circuits of these look healthy,
// because none of their responses is judged.
func (a *Agent) warnUnread(now int64) {
	if now < a.unread.next {
		return
	}
	a.unread.next = now + int64(unreadEvery)
	circuits := a.findUnread()
	left := unreadPerLook
	for i := range circuits {
		u := &circuits[i]
		for _, o := range a.unread.take(u, &left) {
			a.log.Warn("connections of an http policy carry no request that is observed", "policy", u.policy, "direction", u.direction,
				"backend", u.backend, "protocol", o.String(), "connections", u.counts[o], "remedy", console.RemedyOf(o))
		}
	}
}

// findUnread returns the circuits of http policies that have counted connections without a request, and no request.
func (a *Agent) findUnread() []unread {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []unread
	for _, c := range a.circuits {
		if c == nil || !c.policy.Protocol.Requests() {
			continue
		}
		counts, requests := a.dp.Openings(c.id)
		if requests == 0 && counts != [tables.Openings]uint64{} {
			all = append(all, unread{c.policy.Name, c.policy.Direction.String(), c.name, counts})
		}
	}
	return all
}

// take returns the messages to log now for a circuit, at most left, and lowers left. A PROXY header alone is not logged:
// the request after it may be on its way.
func (l *unreadLog) take(u *unread, left *int) []tables.Opening {
	var all []tables.Opening
	for _, o := range []tables.Opening{tables.OpeningTLS, tables.OpeningMalformed, tables.OpeningOther} {
		key := unreadKey{u.policy, u.backend, o}
		if u.counts[o] == 0 || l.logged[key] || *left == 0 || len(l.logged) == unreadPerRun {
			continue
		}
		if l.logged == nil {
			l.logged = map[unreadKey]bool{}
		}
		l.logged[key] = true
		*left--
		all = append(all, o)
	}
	return all
}
