package breaker

import (
	"slices"
	"time"
)

// program is a compiled tripper. Deciding walks leaves with two jumps each, explaining walks the tree.
type program struct {
	tree   tripNode
	leaves []leaf
	ages   []time.Duration // of pendingAge, ascending, each once
}

// tripNode is a tripper of the tree: a composition, or the leaf with that index.
type tripNode struct {
	kind     TripKind
	leaf     int
	children []tripNode
}

// leaf is a tripper that looks at a circuit. yes and no are the leaves to go on with, or one of the two ends.
type leaf struct {
	kind    TripKind
	state   State
	yes, no int16
	slot    int16 // of slowRate; of a field; of a streak, -1 = any failure
	n       uint64
	number  float64 // rate or stdev
	over    time.Duration
	hosts   int
}

const (
	endTrue  = -1
	endFalse = -2
)

// compile compiles a valid trip. It adds slow slots, streaks and clients to p as needed.
func compile(p *plan, t *Trip) program {
	c := compiler{plan: p}
	c.program.tree = c.node(t, endTrue, endFalse)
	for i := range c.program.leaves {
		l := &c.program.leaves[i]
		l.yes, l.no = c.resolve(l.yes), c.resolve(l.no)
		if l.kind == TripPendingAge {
			c.program.ages = append(c.program.ages, l.over)
		}
	}
	slices.Sort(c.program.ages)
	c.program.ages = slices.Compact(c.program.ages)
	return c.program
}

type compiler struct {
	plan    *plan
	program program
	labels  []int16 // where label -3-i is
}

func (c *compiler) label() int16 {
	c.labels = append(c.labels, 0)
	return endFalse - int16(len(c.labels))
}

func (c *compiler) place(label int16) { c.labels[endFalse-1-label] = int16(len(c.program.leaves)) }

func (c *compiler) resolve(target int16) int16 {
	if target < endFalse {
		return c.labels[endFalse-1-target]
	}
	return target
}

func (c *compiler) node(t *Trip, yes, no int16) tripNode {
	n := tripNode{kind: t.Kind, leaf: -1}
	switch t.Kind {
	case TripNot:
		n.children = []tripNode{c.node(&t.Children[0], no, yes)}
	case TripAny, TripAll:
		for i := range t.Children {
			y, f := yes, no
			last := i == len(t.Children)-1
			next := int16(0)
			if !last {
				next = c.label()
				if t.Kind == TripAny {
					f = next
				} else {
					y = next
				}
			}
			n.children = append(n.children, c.node(&t.Children[i], y, f))
			if !last {
				c.place(next)
			}
		}
	default:
		n.leaf = len(c.program.leaves)
		c.program.leaves = append(c.program.leaves, c.leaf(t, yes, no))
	}
	return n
}

func (c *compiler) leaf(t *Trip, yes, no int16) leaf {
	l := leaf{kind: t.Kind, yes: yes, no: no, n: uint64(t.N), over: t.Over, state: t.State, slot: -1, number: t.Rate}
	switch t.Kind {
	case TripSlowRate:
		l.slot = int16(c.plan.slot(t.Over))
	case TripConsecutiveFailures:
		if t.Of != nil {
			l.slot = int16(c.plan.streak(t.Of))
		}
	case TripSuccessRateOutlier:
		l.number, l.hosts, l.slot = t.Stdev, t.MinBackends, int16(c.plan.field(l.n))
	case TripMinClients:
		c.plan.clients = max(c.plan.clients, minClientsKept, t.N)
	}
	return l
}

// namesHalfOpen returns the part of a trip that runs in half-open with probes: of an any the children that name
// `state: half-open` somewhere, and any other tripper as a whole or not at all.
func namesHalfOpen(t *Trip) (Trip, bool) {
	if t.Kind != TripAny {
		return *t, mentionsHalfOpen(t)
	}
	kept := *t
	kept.Children = nil
	for i := range t.Children {
		if child, ok := namesHalfOpen(&t.Children[i]); ok {
			kept.Children = append(kept.Children, child)
		}
	}
	return kept, len(kept.Children) > 0
}

func mentionsHalfOpen(t *Trip) bool {
	return t.Kind == TripState && t.State == StateHalfOpen || slices.ContainsFunc(t.Children, func(child Trip) bool {
		return mentionsHalfOpen(&child)
	})
}
