package top

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/view"
)

// every is the interval between two requests to the agent.
const every = time.Second

// eventsShown is how many records the detail of a circuit shows.
const eventsShown = 8

// Source provides the data of the view.
type Source interface {
	Status(ctx context.Context, target string) (control.Status, error)
	Events(ctx context.Context, target string, last int, follow bool, f func(view.Record) error, missed func(uint64)) error
}

// Model is the live view. New makes one.
type Model struct {
	source Source
	target string

	status  control.Status
	known   bool // a status has been received
	err     error
	rows    map[key]*row
	shown   []*row // sorted
	order   int
	cursor  key // the selected circuit
	detail  bool
	events  []view.Record // of the detail's circuit
	width   int
	height  int
	stopped bool
}

// New returns a view of a target, which may be empty.
func New(source Source, target string) Model {
	return Model{source: source, target: target, width: 100, height: 30}
}

// Init sends the first request.
func (m Model) Init() tea.Cmd { return m.request(0) }

// answer is the agent's answer to a request.
type answer struct {
	status control.Status
	events []view.Record
	err    error
}

// request sends a request to the agent after a time.
func (m Model) request(after time.Duration) tea.Cmd {
	source, target := m.source, m.target
	about := ""
	if m.detail {
		about = m.cursor.policy + "/" + m.cursor.backend
	}
	return tea.Tick(after, func(time.Time) tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var n answer
		if n.status, n.err = source.Status(ctx, target); n.err == nil && about != "" {
			n.err = source.Events(ctx, about, eventsShown, false, func(r view.Record) error {
				n.events = append(n.events, r)
				return nil
			}, func(uint64) {})
		}
		return n
	})
}

// Update handles one message.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case answer:
		m.take(msg)
		return m, m.request(every)
	case tea.KeyPressMsg:
		return m.press(msg.String())
	}
	return m, nil
}

func (m *Model) take(n answer) {
	m.err = n.err
	if n.err != nil {
		return
	}
	m.rows = update(m.rows, m.status.Time, &n.status)
	m.status, m.known, m.events = n.status, true, n.events
	m.resort()
}

// resort sorts the rows; the same circuit stays selected as long as it exists.
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

// position returns the row of the selected circuit.
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
