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

// ErrScope means that new settings have another scope, which needs a new group.
var ErrScope = errors.New("the scope of a group cannot change")

// Group is one policy: its settings, its circuits, and their shared state.
type Group struct {
	name     string
	plan     *plan
	random   *rand.Rand
	now      Time // the latest time seen; earlier ones are taken as this
	next     Time // deadline of due[0]
	due      deadlines
	circuits []*Circuit
	known    map[string]*Circuit
	made     uint64 // circuits created so far

	fields    []field // for successRateOutlier
	fieldsEnd Time    // no outcome in them expires before

	ejectedNow int    // circuits for which Circuit.ejects is 1
	ejections  uint64 // by outcome, so far
}

// NewGroup returns a group without backends. The seed, together with the name, determines jitter and ramps, so that groups
// with the same seed differ. The error lists all invalid settings.
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

// Ejected returns the number of circuits that are open, half-open or forced open, less the half-open ones that do not count
// because no probe was admitted for long.
func (g *Group) Ejected() int { return g.ejectedNow }

// Circuits returns the circuits in the order in which they were added; with scope: policy there is one at most.
// The slice belongs to the group and is valid until a backend is added or removed.
func (g *Group) Circuits() []*Circuit { return g.circuits }

// Circuit returns the circuit of a backend, nil when it is not known.
func (g *Group) Circuit(backend string) *Circuit { return g.known[backend] }

// Add adds a backend and returns its circuit.
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

// Remove removes a backend and its circuit (with scope: policy: when it was the last). With fewer backends the limits may
// close the newest ejected circuits of others, for which it appends events.
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

// Advance makes all transitions that were due at or before now, in the order in which they were due. now must be a time up
// to which all outcomes have been read: otherwise a probe that ended in time could count as timed out.
func (g *Group) Advance(now Time, buf []Event) []Event {
	_, buf = g.clock(now, buf)
	return buf
}

// NextDeadline returns when Advance has work to do, Never when there is none.
func (g *Group) NextDeadline() Time { return g.next }

// clock makes the transitions that were due at now and returns the time to use: it never decreases.
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
