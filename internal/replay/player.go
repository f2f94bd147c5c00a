package replay

import (
	"bufio"
	"errors"
	"fmt"
	"math"

	"github.com/cbagent/cbagent/internal/breaker"
)

// player holds the groups, the clock, and what the agent would have from the kernel: who is waiting for an answer.
type player struct {
	out      *bufio.Writer
	scratch  []byte
	events   []breaker.Event
	now      breaker.Time
	started  bool
	groups   []*breaker.Group
	backends map[string]*backend
	dynamic  *breaker.Group // to which unknown backends belong
	records  map[*breaker.Circuit]*record
	appeared []*record
}

// record is what a replay keeps about a circuit.
type record struct {
	circuit  *breaker.Circuit
	backends []*backend
	begins   []breaker.Time // when generations 1, 2, ... began
	pends    bool           // a tripper of its policy is a pendingAge
	seen     bool
}

func newPlayer(out *bufio.Writer, policies []Policy, seed uint64) (*player, error) {
	p := &player{out: out, backends: make(map[string]*backend), records: make(map[*breaker.Circuit]*record)}
	for i := range policies {
		q := &policies[i]
		g, err := breaker.NewGroup(q.Name, q.Settings, seed)
		if err != nil {
			return nil, err
		}
		p.groups = append(p.groups, g)
		for _, addr := range q.Addresses {
			id := canonical(addr)
			if p.backends[id] != nil {
				return nil, fmt.Errorf("backend %s belongs to two policies, one is %s", id, q.Name)
			}
			p.add(g, id)
		}
	}
	if len(policies) == 1 && policies[0].Dynamic {
		p.dynamic = p.groups[0]
	}
	return p, nil
}

func (p *player) add(g *breaker.Group, id string) *backend {
	c := g.Add(id, 0)
	r := p.records[c]
	if r == nil {
		s := g.Settings()
		r = &record{circuit: c, pends: pends(&s.Trip)}
		p.records[c] = r
	}
	b := &backend{record: r}
	r.backends = append(r.backends, b)
	p.backends[id] = b
	return b
}

func pends(t *breaker.Trip) bool {
	if t.Kind == breaker.TripPendingAge {
		return true
	}
	for i := range t.Children {
		if pends(&t.Children[i]) {
			return true
		}
	}
	return false
}

// step does what a line says; without play it only looks for errors.
func (p *player) step(l *line, play bool) error {
	if p.started && l.at < p.now {
		return fmt.Errorf("t: must not go back, got %s after %s", appendSeconds(nil, int64(l.at)), appendSeconds(nil, int64(p.now)))
	}
	b, err := p.find(l)
	if err != nil {
		return err
	}
	p.now, p.started = l.at, true
	if !play {
		return nil
	}
	p.advance()
	if b == nil {
		return nil
	}
	if !b.seen {
		b.seen = true
		p.appeared = append(p.appeared, b.record)
	}
	switch l.action {
	case actionOutcome:
		p.outcome(b, l)
	case actionAttempt:
		p.attempt(b)
	case actionInspect:
		p.inspect(b.record)
	}
	return nil
}

// find returns the backend of a line, nil for a tick.
func (p *player) find(l *line) (*backend, error) {
	if l.action == actionTick {
		return nil, nil
	}
	if b := p.backends[l.backend]; b != nil {
		return b, nil
	}
	if p.dynamic == nil {
		return nil, errors.New("backend: no policy matches " + shorten(l.backend))
	}
	return p.add(p.dynamic, l.backend), nil
}

// advance lets happen what time alone does, in the order in which it is due over all policies.
func (p *player) advance() {
	for {
		var first *breaker.Group
		next := breaker.Time(math.MaxInt64)
		for _, g := range p.groups {
			if due := g.NextDeadline(); due < next {
				first, next = g, due
			}
		}
		if first == nil || next > p.now {
			return
		}
		p.events = first.Advance(next, p.events)
		p.report()
	}
}

// attempt asks for admission; who is admitted is in flight from now on.
func (p *player) attempt(b *backend) {
	var a breaker.Admission
	a, p.events = b.circuit.Allow(p.now, p.events)
	p.report()
	p.writeAttempt(b.circuit, &a)
	if a.Admitted {
		b.attempts = append(b.attempts, attempt{at: p.now, generation: a.Generation, permit: a.Permit})
		b.setPending()
	}
}

// outcome hands a line's outcomes to the circuit, each with the attempt that it belongs to.
func (p *player) outcome(b *backend, l *line) {
	o := l.outcome
	for n := l.count; n > 0; {
		a, ok := b.take(l.began, l.outcome.Began)
		switch {
		case ok:
			o.Generation, o.Permit, o.Began = a.generation, a.permit, a.at
			_, p.events = b.circuit.Record(p.now, &o, p.events)
			n--
		case l.began:
			o.Generation, o.Permit, o.Began = b.generationAt(l.outcome.Began), false, l.outcome.Began
			n = p.equal(b, &o, n)
		default:
			o.Generation, o.Permit, o.Began = b.circuit.Generation(), true, p.now
			if !b.permit(p.now) {
				n = 0 // and as it changed nothing, so it is for the others
				break
			}
			n = p.equal(b, &o, n)
		}
		p.report()
		b.setPending()
	}
}

// permit takes the permit of a request that is taken to have been admitted now, if it needs one; false if it gets none.
func (b *backend) permit(now breaker.Time) bool {
	if !b.circuit.Probing() {
		return true
	}
	a, _ := b.circuit.Allow(now, nil)
	return a.Permit
}

// equal hands up to n outcomes without an attempt of their own to the circuit and returns how many are left.
func (p *player) equal(b *backend, o *breaker.Outcome, n uint64) uint64 {
	var j breaker.Judgement
	n, j, p.events = b.circuit.RecordN(p.now, o, n, p.events)
	if j != breaker.Judged {
		return 0 // it changed nothing, and the others would not either
	}
	return n
}

// report writes the events and keeps the times of transitions.
func (p *player) report() {
	for i := range p.events {
		e := &p.events[i]
		if e.Kind == breaker.EventTransition {
			r := p.records[e.Circuit]
			r.begins = append(r.begins, e.At)
		}
		p.writeEvent(e)
	}
	p.events = p.events[:0]
}
