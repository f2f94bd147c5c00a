package containment

import (
	"fmt"
	"time"

	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/peer/proxy"
)

// cell is one scenario: what is done to every peer.
type cell struct {
	how    failure
	rate   float64       // requests a second
	good   time.Duration // how long the backend served well before
	keep   bool          // clients keep their connections
	byRate bool          // breakers judge the share of failures in 10 s, not failures in a row
}

// Settings of all peers.
const (
	threshold = 5                      // failures in a row
	open      = time.Second            // until the next try
	timeout   = 500 * time.Millisecond // of connecting and of an answer
	patience  = 600 * time.Millisecond // of a client: a little longer
	failRate  = 0.5                    // trips those that judge by rate
	someRate  = 0.2                    // the same where three of ten fail
	minCalls  = 20
)

func (c cell) String() string {
	text := fmt.Sprintf("%s, %g rps, after %s", c.how, c.rate, c.good)
	if !c.keep {
		text += ", new connections"
	}
	if c.byRate {
		text += ", by rate"
	}
	return text
}

// cells are those that a run measures: the first, and what changes when one thing is different. Full is every
// combination.
func cells(quick, full bool) []cell {
	base := cell{how: status500, rate: 400, good: time.Second, keep: true}
	with := func(change func(*cell)) cell {
		c := base
		change(&c)
		return c
	}
	switch {
	case quick:
		return []cell{base, with(func(c *cell) { c.how = hang })}
	case full:
		var all []cell
		for _, how := range []failure{status500, hang, refuse, blackHole, some} {
			for _, rate := range []float64{100, 400, 1600} {
				for _, good := range []time.Duration{time.Second, 11 * time.Second} {
					for _, keep := range []bool{true, false} {
						all = append(all, cell{how: how, rate: rate, good: good, keep: keep, byRate: how == some})
					}
				}
			}
		}
		return all
	}
	return []cell{
		base,
		with(func(c *cell) { c.rate = 100 }),
		with(func(c *cell) { c.rate = 1600 }),
		with(func(c *cell) { c.keep = false }),
		with(func(c *cell) { c.good = 11 * time.Second }),
		with(func(c *cell) { c.good, c.byRate = 11*time.Second, true }),
		with(func(c *cell) { c.how = hang }),
		with(func(c *cell) { c.how, c.keep = hang, false }),
		with(func(c *cell) { c.how = refuse }),
		with(func(c *cell) { c.how, c.keep = refuse, false }),
		with(func(c *cell) { c.how = blackHole }),
		with(func(c *cell) { c.how, c.keep = blackHole, false }),
		with(func(c *cell) { c.how, c.byRate = some, true }),
	}
}

// contestant is a peer with its settings.
type contestant struct {
	name string
	kind peer.Kind
	set  peer.Settings
}

// Names of what cbagent does beyond what is asked of all.
const (
	withStreak = "cbagent, a streak beside the rate"
	withLimits = "cbagent, pendingAge and maxRequests"
)

// contestants are the peers of a cell.
func (c cell) contestants() []contestant {
	set := peer.Settings{Open: open, Timeout: timeout, Trip: proxy.Trip{Consecutive: threshold}}
	if c.byRate {
		set.Trip = proxy.Trip{Rate: failRate, MinCalls: minCalls}
		if c.how == some {
			set.Trip.Rate = someRate
		}
	}
	common := []string{
		fmt.Sprintf("outcome: {timeout: %s, connectTimeout: %s}", timeout, timeout),
		fmt.Sprintf("open: {duration: %s, backoff: none}", open),
		"halfOpen: {calls: 1}",
	}
	all := []contestant{{string(peer.Cbagent), peer.Cbagent, set}}
	switch {
	case c.byRate && c.how != some:
		more := set
		more.Policy = append(common[:len(common):len(common)],
			fmt.Sprintf("trip: [{consecutiveFailures: %d}, {all: [{minCalls: %d}, {failureRate: %g}]}]", threshold, minCalls, failRate))
		all = append(all, contestant{withStreak, peer.Cbagent, more})
	case c.how == hang || c.how == blackHole:
		more := set
		more.Policy = append(common[:len(common):len(common)],
			fmt.Sprintf("trip: [{consecutiveFailures: %d}, {pendingAge: 100ms}]", threshold), "limits: {maxRequests: 16}")
		all = append(all, contestant{withLimits, peer.Cbagent, more})
	}
	if !c.byRate || c.how == some {
		inARow := set
		inARow.Trip = proxy.Trip{Consecutive: threshold} // they know nothing else
		all = append(all, contestant{string(peer.HAProxy), peer.HAProxy, inARow}, contestant{string(peer.Nginx), peer.Nginx, inARow})
	}
	for _, k := range []peer.Kind{peer.Gobreaker, peer.Failsafe, peer.Oxy} {
		all = append(all, contestant{string(k), k, set})
	}
	return all
}
