package top

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/view"
)

// every is how often the agent is asked.
const every = time.Second

// eventsShown is how many records of a circuit its detail has.
const eventsShown = 8

// Source is where the view gets its data.
type Source interface {
	Status(ctx context.Context, target string) (control.Status, error)
	Events(ctx context.Context, target string, last int, follow bool, f func(view.Record) error, missed func(uint64)) error
}

// Model is the live view. New makes one.
type Model struct {
	source Source
	target string

	status  control.Status
	known   bool // status is there
	err     error
	rows    map[key]*row
	shown   []*row // in order
	order   int
	cursor  key // the circuit that is chosen
	detail  bool
	events  []view.Record // of the detail's circuit
	width   int
	height  int
	stopped bool
}

// New makes a view of a target, which may be empty.
func New(source Source, target string) Model {
	return Model{source: source, target: target, width: 100, height: 30}
}

// Init asks for the first time.
func (m Model) Init() tea.Cmd { return m.ask(0) }

// news is what the agent said.
type news struct {
	status control.Status
	events []view.Record
	err    error
}

// ask asks the agent after a while.
func (m Model) ask(after time.Duration) tea.Cmd {
	source, target := m.source, m.target
	about := ""
	if m.detail {
		about = m.cursor.policy + "/" + m.cursor.backend
	}
	return tea.Tick(after, func(time.Time) tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var n news
		if n.status, n.err = source.Status(ctx, target); n.err == nil && about != "" {
			n.err = source.Events(ctx, about, eventsShown, false, func(r view.Record) error {
				n.events = append(n.events, r)
				return nil
			}, func(uint64) {})
		}
		return n
	})
}

// Update takes one message.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case news:
		m.take(msg)
		return m, m.ask(every)
	case tea.KeyPressMsg:
		return m.press(msg.String())
	}
	return m, nil
}

func (m *Model) take(n news) {
	m.err = n.err
	if n.err != nil {
		return
	}
	m.rows = update(m.rows, m.status.Time, &n.status)
	m.status, m.known, m.events = n.status, true, n.events
	m.resort()
}

// resort puts the rows in order; the choice stays on its circuit as long as that is there.
func (m *Model) resort() {
	m.shown = sorted(m.rows, m.order)
	if m.rows[m.cursor] == nil {
		m.detail = false
		if len(m.shown) > 0 {
			m.cursor = keyOf(&m.shown[0].Circuit)
		}
	}
}

func (m Model) press(k string) (tea.Model, tea.Cmd) {
	switch k {
	case "q", "ctrl+c":
		m.stopped = true
		return m, tea.Quit
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-10)
	case "pgdown":
		m.move(10)
	case "enter", "right":
		m.detail, m.events = len(m.shown) > 0, nil
	case "esc", "left", "backspace":
		m.detail = false
	}
	for i, o := range orders {
		if k == o.key && !m.detail {
			m.order = i
			m.resort()
		}
	}
	return m, nil
}

// position returns where in the table the chosen circuit is.
func (m *Model) position() int {
	for i, r := range m.shown {
		if keyOf(&r.Circuit) == m.cursor {
			return i
		}
	}
	return 0
}

func (m *Model) move(by int) {
	if len(m.shown) == 0 {
		return
	}
	to := min(max(m.position()+by, 0), len(m.shown)-1)
	if next := keyOf(&m.shown[to].Circuit); next != m.cursor {
		m.cursor, m.events = next, nil
	}
}
