package breaker

import (
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// ejectionModel counts what is ejected from states and events, not as the group does.
type ejectionModel struct {
	*rapid.T
	s       Settings
	g       *Group
	now     Time
	events  []Event
	asked   map[string]Time // when a half-open circuit admitted its latest probe, at first when the period began
	yielded map[string]bool // it does not count
	order   map[string]int  // of ejections by outcome
	last    int
	shrinks bool // fewer backends, or other limits
}

func newEjectionModel(t *rapid.T) *ejectionModel {
	m := &ejectionModel{T: t, s: DefaultSettings(), asked: map[string]Time{}, yielded: map[string]bool{}, order: map[string]int{}}
	m.s.Trip = consecutive(2)
	m.s.Open.Duration, m.s.HalfOpen.Timeout = 5*time.Second, 5*time.Second
	m.s.HalfOpen.Tolerate = 1
	m.limits()
	m.start()
	for i := range 4 {
		m.g.Add(fmt.Sprint("b", i), 0)
	}
	return m
}

func (m *ejectionModel) start() {
	g, err := NewGroup("p", m.s, 1)
	if err != nil {
		m.Fatal(err)
	}
	m.g = g
}

func (m *ejectionModel) limits() {
	m.s.Ejection = Ejection{
		MaxPercent: rapid.SampledFrom([]float64{0, 10, 33.3, 50, 67, 100}).Draw(m.T, "maxPercent"),
		MinHealthy: rapid.IntRange(0, 3).Draw(m.T, "minHealthy"),
	}
}

func (m *ejectionModel) backend() string {
	return fmt.Sprint("b", rapid.IntRange(0, 5).Draw(m.T, "backend"))
}

func (m *ejectionModel) fits(n int) bool {
	return n == 0 || 100*float64(n)/float64(m.g.Known()) <= m.s.Ejection.MaxPercent && m.g.Known()-n >= m.s.Ejection.MinHealthy
}

// placeUntil returns when a half-open circuit's place ends.
func (m *ejectionModel) placeUntil(b string) Time { return m.asked[b].Add(30 * time.Second) }

// ejected counts the circuits that hold a place.
func (m *ejectionModel) ejected() (n int) {
	for _, c := range m.g.Circuits() {
		switch c.State() {
		case StateOpen, StateForcedOpen:
			n++
		case StateHalfOpen:
			if !m.yielded[c.Backend()] {
				n++
			}
		}
	}
	return n
}

func (m *ejectionModel) eject(b string) {
	m.last++
	m.order[b] = m.last
}

// ask takes a permit of a half-open circuit, and with it the place that it gave up if the limits allow it.
func (m *ejectionModel) ask(c *Circuit) Admission {
	var a Admission
	before := m.ejected()
	a, m.events = c.Allow(m.now, m.events)
	if b := c.Backend(); a.Permit {
		m.asked[b] = m.now
		if m.yielded[b] && m.fits(before+1) {
			m.yielded[b] = false
			m.eject(b)
		}
	}
	return a
}

// probe asks one of the half-open circuits, and may leave its probe without an outcome.
func (m *ejectionModel) probe() {
	var all []*Circuit
	for _, c := range m.g.Circuits() {
		if c.State() == StateHalfOpen {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return
	}
	c := all[rapid.IntRange(0, len(all)-1).Draw(m.T, "half-open")]
	if rapid.IntRange(0, 2).Draw(m.T, "is lost") == 0 {
		m.ask(c)
		return
	}
	m.record(c, rapid.SampledFrom([]Result{200, 500, 500, ResultAborted}).Draw(m.T, "result"))
}

func (m *ejectionModel) record(c *Circuit, r Result) {
	o := Outcome{Result: r, Generation: c.Generation()}
	if c.State() == StateHalfOpen {
		o.Permit, o.Began = m.ask(c).Permit, m.now
	}
	state, streak, before := c.State(), c.streak, m.ejected()
	_, m.events = c.Record(m.now, &o, m.events)
	if state == StateClosed && o.Result == 500 && streak >= 1 {
		if want := m.fits(before + 1); (c.State() == StateOpen) != want {
			m.Fatalf("%d of %d ejected, %+v: opened is %v", before, m.g.Known(), m.s.Ejection, !want)
		}
	}
}

// restart makes all circuits anew from their snapshots.
func (m *ejectionModel) restart() {
	before := m.g.Circuits()
	m.start()
	for _, c := range before {
		var restored *Circuit
		restored, m.events = m.g.Restore(c.Backend(), c.Snapshot(), m.now, m.events)
		if restored.State() == StateHalfOpen {
			m.asked[c.Backend()] = m.now
		}
	}
}
