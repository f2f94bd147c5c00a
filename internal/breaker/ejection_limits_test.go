package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// check looks at what has happened since the last one.
func (m *ejectionModel) check() {
	m.follow()
	for _, c := range m.g.Circuits() {
		b := c.Backend()
		if c.State() == StateHalfOpen && m.now >= m.placeUntil(b) {
			m.yielded[b] = true
			delete(m.order, b)
		}
		if got := c.Status().Yielded; got != m.yielded[b] {
			m.Fatalf("%s is %v, asked %v ago: it has given its place up is %v", b, c.State(), m.now.Sub(m.asked[b]), got)
		}
	}
	n := m.ejected()
	if n != m.g.Ejected() {
		m.Fatalf("%d ejected, the group says %d", n, m.g.Ejected())
	}
	if !m.fits(n) {
		m.Fatalf("%d of %d ejected with %+v", n, m.g.Known(), m.s.Ejection)
	}
	for _, e := range m.events {
		if m.shrinks && e.Reason == ReasonEjectionLimit && m.fits(n+1) {
			m.Fatalf("closed %s, leaving %d of %d: one less was enough", e.Backend, n, m.g.Known())
		}
	}
	m.events, m.shrinks = m.events[:0], false
}

// follow looks at each transition at its own moment.
func (m *ejectionModel) follow() {
	states := m.statesBefore()
	for _, e := range m.events {
		b := e.Backend
		if e.Kind != EventTransition {
			continue
		}
		lapsed := e.From == StateHalfOpen && (m.yielded[b] || e.At > m.placeUntil(b))
		// Of two things that are due at the same moment either may be the first.
		fewest, most := m.held(states, e.At+1), m.held(states, e.At)
		switch {
		case e.Reason == ReasonEjectionLimit && m.shrinks:
			m.wantNewest(b)
		case e.Reason == ReasonEjectionLimit:
			if !lapsed || m.fits(most+1) {
				m.Fatalf("%s was closed with %d of %d ejected and %+v", b, most, m.g.Known(), m.s.Ejection)
			}
		case e.To == StateOpen && (e.From == StateClosed || lapsed):
			m.eject(b)
			if !m.fits(fewest + 1) {
				m.Fatalf("%s was opened with %d of %d ejected and %+v", b, fewest, m.g.Known(), m.s.Ejection)
			}
		}
		states[b], m.yielded[b] = e.To, false
		switch e.To {
		case StateHalfOpen:
			m.asked[b] = e.At
		case StateClosed:
			delete(m.order, b)
		}
	}
}

// statesBefore returns the states before the events.
func (m *ejectionModel) statesBefore() map[string]State {
	states := map[string]State{}
	for _, c := range m.g.Circuits() {
		states[c.Backend()] = c.State()
	}
	for i := len(m.events) - 1; i >= 0; i-- {
		states[m.events[i].Backend] = m.events[i].From
	}
	return states
}

// held counts those that hold a place at a moment.
func (m *ejectionModel) held(states map[string]State, at Time) (n int) {
	for b, state := range states {
		if state == StateOpen || state == StateHalfOpen && !m.yielded[b] && at <= m.placeUntil(b) {
			n++
		}
	}
	return n
}

// wantNewest fails if a circuit held no place, or not that of the newest ejection.
func (m *ejectionModel) wantNewest(b string) {
	if m.order[b] == 0 {
		m.Fatalf("%s was closed, which held no place", b)
	}
	for other, at := range m.order {
		if c := m.g.Circuit(other); at > m.order[b] && c != nil && c.State() != StateClosed {
			m.Fatalf("%s was closed, but %s was ejected later", b, other)
		}
	}
}

// TestEjectionNeverPassesItsLimits plays any order of outcomes, waits, arrivals, departures, reloads and restarts.
func TestEjectionNeverPassesItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newEjectionModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { m.g.Add(m.backend(), m.now) },
			"remove": func(t *rapid.T) {
				b := m.backend()
				delete(m.order, b)
				delete(m.yielded, b)
				m.shrinks = true
				m.events = m.g.Remove(b, m.now, m.events)
			},
			"record": func(t *rapid.T) {
				m.record(m.g.Add(m.backend(), m.now), rapid.SampledFrom([]Result{200, 500, 500}).Draw(t, "result"))
			},
			"fail": func(t *rapid.T) {
				c := m.g.Add(m.backend(), m.now)
				m.record(c, 500)
				m.record(c, 500)
			},
			"probe": func(*rapid.T) { m.probe() },
			"wait": func(t *rapid.T) {
				longest := rapid.SampledFrom([]time.Duration{8 * time.Second, 50 * time.Second}).Draw(t, "at most")
				m.now += Time(rapid.Int64Range(0, int64(longest)).Draw(t, "wait"))
				m.events = m.g.Advance(m.now, m.events)
			},
			"wait for what is due": func(*rapid.T) {
				if next := m.g.NextDeadline(); next != Never {
					m.now = max(m.now, next)
					m.events = m.g.Advance(m.now, m.events)
				}
			},
			"reload": func(t *rapid.T) {
				m.limits()
				m.shrinks = true
				var err error
				if m.events, err = m.g.Update(m.s, m.now, m.events); err != nil {
					t.Fatal(err)
				}
			},
			"restart": func(*rapid.T) { m.restart() },
			"":        func(*rapid.T) { m.check() },
		})
	})
}
