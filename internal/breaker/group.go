package breaker

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// SharedBackend is the backend of the one circuit of a group with scope: policy.
const SharedBackend = "*"

// ErrScope says that new settings have another scope, which needs a new group.
var ErrScope = errors.New("the scope of a group cannot change")

// Group is one policy: its settings, its circuits, and what they share.
type Group struct {
	name     string
	plan     *plan
	random   *rand.Rand
	now      Time // the latest time seen; earlier ones are taken as this
	next     Time // deadline of due[0]
	due      deadlines
	circuits []*Circuit
	known    map[string]*Circuit
	made     uint64 // circuits ever made

	fields    []field // for successRateOutlier
	fieldsEnd Time    // they are right until then, as far as time goes

	ejectedNow int    // circuits for which Circuit.ejects is 1
	ejections  uint64 // by outcome, ever
}

// NewGroup makes a group without backends. The seed decides jitter and ramps, together with the name, so that groups of
// one seed differ. Impossible settings are an error that lists all of them.
func NewGroup(name string, s Settings, seed uint64) (*Group, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	g := &Group{
		name:   name,
		plan:   newPlan(s),
		random: rand.New(rand.NewPCG(seed, h.Sum64())),
		now:    math.MinInt64,
		next:   Never,
		known:  make(map[string]*Circuit),
	}
	g.recount()
	return g, nil
}

// Name returns the name given to NewGroup.
func (g *Group) Name() string { return g.name }

// Settings returns those in force.
func (g *Group) Settings() Settings { return g.plan.Settings }

// Known returns the number of backends.
func (g *Group) Known() int { return len(g.known) }

// Ejected returns the number of circuits that are open, half-open or forced open, less those half-open ones that gave
// their place up since no probe was admitted for long.
func (g *Group) Ejected() int { return g.ejectedNow }

// Circuits returns the circuits in the order in which they were added; with scope: policy there is one at most.
// The slice belongs to the group and is valid until a backend is added or removed.
func (g *Group) Circuits() []*Circuit { return g.circuits }

// Circuit returns the circuit of a backend, nil when it is not known.
func (g *Group) Circuit(backend string) *Circuit { return g.known[backend] }

// Add makes a backend known and returns its circuit.
func (g *Group) Add(backend string, now Time) *Circuit {
	if c := g.known[backend]; c != nil {
		return c
	}
	c, id := (*Circuit)(nil), backend
	if g.plan.Scope == ScopePolicy {
		id = SharedBackend
		if len(g.circuits) > 0 {
			c = g.circuits[0]
		}
	}
	if c == nil {
		c = g.newCircuit(id, max(now, g.now))
	}
	g.known[backend] = c
	return c
}

func (g *Group) newCircuit(id string, now Time) *Circuit {
	c := &Circuit{group: g, backend: id, order: g.made, place: len(g.circuits), deadline: Never, heapAt: -1, since: now, until: Never}
	c.window.end = math.MinInt64
	g.made++
	switch g.plan.Mode {
	case ModeForcedOpen:
		c.state = StateForcedOpen
	case ModeDisabled:
		c.state = StateDisabled
	}
	g.ejectedNow += c.ejects()
	if n := len(g.plan.streaks); n > 0 {
		c.streaks = make([]uint64, n)
	}
	if n := len(g.fields); n > 0 {
		c.shares = make([]uint64, n)
	}
	g.circuits = append(g.circuits, c)
	return c
}

// Remove forgets a backend and its circuit (with scope: policy: when it was the last). Fewer known backends may take
// back the newest ejections of others, for which it appends events.
func (g *Group) Remove(backend string, now Time, buf []Event) []Event {
	now, buf = g.clock(now, buf)
	c := g.known[backend]
	if c == nil {
		return buf
	}
	delete(g.known, backend)
	if g.plan.Scope == ScopePolicy && len(g.known) > 0 {
		return buf
	}
	g.due.take(c)
	g.wake()
	g.ejectedNow -= c.ejects()
	c.uncount()
	copy(g.circuits[c.place:], g.circuits[c.place+1:])
	g.circuits[len(g.circuits)-1] = nil
	g.circuits = g.circuits[:len(g.circuits)-1]
	for i, other := range g.circuits[c.place:] {
		other.place = c.place + i
	}
	return g.enforceLimits(now, buf)
}

// Advance does everything that was due at or before now, in the order in which it was due. Whoever reads outcomes from
// elsewhere calls it with the time up to which he has read all of them: a probe that reported in time must not be found
// to be late.
func (g *Group) Advance(now Time, buf []Event) []Event {
	_, buf = g.clock(now, buf)
	return buf
}

// NextDeadline returns when Advance will have something to do, Never when there is nothing to wait for.
func (g *Group) NextDeadline() Time { return g.next }

// clock takes note of the time, does what was due, and returns the time to go on with: it never runs backwards.
func (g *Group) clock(now Time, buf []Event) (Time, []Event) {
	for g.next <= now {
		g.now = max(g.now, g.next)
		buf = g.due[0].due(g.now, buf)
	}
	g.now = max(g.now, now)
	return g.now, buf
}

func (g *Group) reschedule(c *Circuit) {
	g.due.put(c)
	g.wake()
}

func (g *Group) wake() {
	g.next = Never
	if len(g.due) > 0 {
		g.next = g.due[0].deadline
	}
}
