package breaker

import (
	"reflect"
	"slices"
	"time"
)

// class is a policy's classification of a result.
type class uint8

const (
	classFailure class = 1 << iota
	classIgnored
)

// plan is Settings compiled for judging, with lookup tables in place of searches at each outcome.
type plan struct {
	Settings
	classes  [MaxResult + 1]class
	shape    windowShape
	slow     []time.Duration // by slot; slot 0 is Outcome.Slow, 0 = nothing is slow
	surely   uint16          // sample flag of the smallest threshold
	streaks  []ResultSet     // consecutiveFailures of certain classes
	fields   []uint64        // minCalls of successRateOutlier, each once
	clients  int             // clients to keep, 0 = no tripper counts them
	closed   program         // trippers in closed, and in half-open with a ramp
	halfOpen program         // trippers in half-open with probes
}

func newPlan(s Settings) *plan {
	p := &plan{Settings: s}
	for r := range Result(len(p.classes)) {
		p.classes[r] = classify(&s.Outcome, r)
	}
	p.slow = []time.Duration{s.Outcome.Slow}
	p.closed = compile(p, &s.Trip)
	if probing, ok := namesHalfOpen(&s.Trip); ok {
		p.halfOpen = compile(p, &probing)
	}
	p.shape = windowShape{kind: s.Window.Type, slots: len(p.slow)}
	if s.Window.Type == WindowTime {
		p.shape.bucket = int64(s.Window.Bucket)
		p.shape.buckets = int64(s.Window.Size / s.Window.Bucket)
	} else {
		p.shape.size = uint64(s.Window.Count)
	}
	for slot, over := range p.slow {
		if over > 0 && (p.surely == 0 || over < p.slow[p.surelySlot()]) {
			p.surely = sampleSlow << slot
		}
	}
	return p
}

func (p *plan) surelySlot() int {
	slot := 0
	for p.surely>>slot > sampleSlow {
		slot++
	}
	return slot
}

// Fails reports whether outcomes of that result are failures.
func (rules *OutcomeRules) Fails(r Result) bool { return classify(rules, r)&classFailure != 0 }

// Ignores reports whether outcomes of that result are not judged.
func (rules *OutcomeRules) Ignores(r Result) bool { return classify(rules, r)&classIgnored != 0 }

func classify(rules *OutcomeRules, r Result) class {
	switch {
	case r == ResultNone || r == ResultUnknown || rules.Ignore.Has(r):
		return classIgnored
	case rules.Failure.Has(r):
		return classFailure
	case r == ResultAborted || r == ResultAbandoned || r == ResultRaced:
		return classIgnored
	}
	return 0
}

func (p *plan) class(r Result) class {
	if int(r) < len(p.classes) {
		return p.classes[r]
	}
	return classIgnored
}

// sample converts an outcome to a window's sample.
func (p *plan) sample(o *Outcome, c class) sample {
	var s sample
	if c&classFailure != 0 {
		s.flags = sampleFailure
	}
	if o.HasLatency && o.Latency >= 0 {
		s.flags |= sampleTimed
		s.latency = uint64(o.Latency)
		for slot, over := range p.slow {
			if o.Latency > over && over > 0 {
				s.flags |= sampleSlow << slot
			}
		}
	}
	return s
}

// slot returns the slow slot of a threshold, and adds one for a new threshold.
func (p *plan) slot(over time.Duration) int {
	if over == 0 || over == p.slow[0] {
		return 0
	}
	for i, d := range p.slow {
		if d == over {
			return i
		}
	}
	p.slow = append(p.slow, over)
	return len(p.slow) - 1
}

func (p *plan) streak(of *ResultSet) int {
	if i := slices.Index(p.streaks, *of); i >= 0 {
		return i
	}
	p.streaks = append(p.streaks, *of)
	return len(p.streaks) - 1
}

func (p *plan) field(calls uint64) int {
	if i := slices.Index(p.fields, calls); i >= 0 {
		return i
	}
	p.fields = append(p.fields, calls)
	return len(p.fields) - 1
}

// sameMemory reports whether a window recorded under q means the same under p.
func (p *plan) sameMemory(q *plan) bool {
	return p.shape == q.shape && p.clients == q.clients && p.Outcome == q.Outcome &&
		slices.Equal(p.slow, q.slow) && slices.Equal(p.streaks, q.streaks)
}

// sameProbing reports whether a half-open period begun under q can go on under p.
func (p *plan) sameProbing(q *plan) bool { return reflect.DeepEqual(p.HalfOpen, q.HalfOpen) }

func (p *plan) probes() bool { return p.HalfOpen.Ramp == nil }
