package breaker

import "slices"

// Source is a source of decisions on a circuit. Of two sources the one with the smaller number takes precedence.
type Source uint8

// Sources.
const (
	SourceOperator Source = iota // an override of this circuit
	SourceMode                   // the policy's mode
	SourceOutcomes               // the trippers and probes of the circuit itself
	sources                      // length
)

// overrides are the overrides of a circuit by sources above the policy's mode: at most one of each source, in order of
// precedence.
type overrides []Override

// put adds an override, and replaces that of the same source.
func (l *overrides) put(o Override) {
	i, found := l.find(o.Source)
	if found {
		(*l)[i] = o
		return
	}
	*l = slices.Insert(*l, i, o)
}

// take removes the override of a source, and reports whether there was one.
func (l *overrides) take(s Source) bool {
	i, found := l.find(s)
	if found {
		*l = slices.Delete(*l, i, i+1)
	}
	return found
}

func (l *overrides) find(s Source) (i int, found bool) {
	return slices.BinarySearchFunc(*l, s, func(o Override, s Source) int { return int(o.Source) - int(s) })
}

// ended returns the first override that has ended at a moment, nil if none has.
func (l overrides) ended(at Time) *Override {
	for i := range l {
		if l[i].Until <= at {
			return &l[i]
		}
	}
	return nil
}

// end returns when the first of the overrides ends.
func (l overrides) end() Time {
	end := Never
	for i := range l {
		end = min(end, l[i].Until)
	}
	return end
}

// decides returns the override in force; without one, the policy's mode in the form of an override.
func (c *Circuit) decides() Override {
	if len(c.overrides) > 0 {
		return c.overrides[0]
	}
	return Override{Source: SourceMode, Mode: c.group.plan.Mode, Until: Never}
}
