package demo

import (
	"fmt"
	"io"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// Live is the view for a terminal: redrawn in place, with the messages above it.
type Live struct {
	program *tea.Program
	ended   chan error
}

// NewLive starts the view on a terminal. It reads no keys: ctrl-C stays a signal.
func NewLive(terminal io.Writer) *Live {
	l := &Live{
		program: tea.NewProgram(screen{}, tea.WithOutput(terminal), tea.WithInput(nil), tea.WithoutSignalHandler()),
		ended:   make(chan error, 1),
	}
	go func() {
		_, err := l.program.Run()
		l.ended <- err
	}()
	return l
}

// Say adds a line above the picture.
func (l *Live) Say(text string) { l.program.Send(said(text)) }

// Show redraws the picture.
func (l *Live) Show(s Snapshot) { l.program.Send(s) }

// Close draws the last picture and leaves it there.
func (l *Live) Close() error {
	l.program.Quit()
	return <-l.ended
}

// said is an event as a message of the program.
type said string

// screen is what is drawn.
type screen struct {
	snapshot Snapshot
	drawn    bool // there is a snapshot
	events   []string
}

func (s screen) Init() tea.Cmd { return nil }

func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case Snapshot:
		s.snapshot, s.drawn = msg, true
	case said:
		s.events = append(s.events, string(msg))
	}
	return s, nil
}

func (s screen) View() tea.View { return tea.NewView(s.text()) }

var (
	faint  = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	blue   = lipgloss.NewStyle().Foreground(lipgloss.Blue)
)

// stateStyles colour the states of circuits.
var stateStyles = map[string]lipgloss.Style{"closed": green, "open": red, "half-open": yellow}

// barWidth is the length of a bar of rates, in characters, at barFull requests a second.
const (
	barWidth = 30
	barFull  = 400
)

// text returns the picture: the messages, a table of backends, and the progress.
func (s screen) text() string {
	var b strings.Builder
	for _, e := range s.events {
		fmt.Fprintf(&b, "%s\n", e)
	}
	if !s.drawn {
		return b.String()
	}
	fmt.Fprintf(&b, "\n  %s  %s\n\n", bold.Render(fmt.Sprintf("%-9s", s.snapshot.Phase)), phaseSays[s.snapshot.Phase])
	for _, backend := range s.snapshot.Backends {
		style, known := stateStyles[backend.State]
		if !known {
			style = bold
		}
		fmt.Fprintf(&b, "  %s  %s  %s %s\n", bold.Render(backend.Name), style.Render(fmt.Sprintf("%-9s", backend.State)),
			backend.bar(), backend.words())
	}
	fmt.Fprintf(&b, "\n  %s %s  %s\n", progressBar(s.snapshot.Progress),
		faint.Render(fmt.Sprintf("%4.1fs", s.snapshot.Elapsed.Seconds())),
		blue.Render(fmt.Sprintf("%d answers by the kernel", s.snapshot.Kernel)))
	return b.String()
}

// progressBar draws how far the run is, 0..1.
func progressBar(done float64) string {
	const width = 50
	n := int(done * width)
	return blue.Render(strings.Repeat("━", n)) + faint.Render(strings.Repeat("━", width-n))
}

// bar draws the rates of a backend side by side.
func (b BackendRates) bar() string {
	var out strings.Builder
	left := barWidth
	for i, c := range b.counts() {
		n := min(left, (c.n*barWidth+barFull-1)/barFull)
		out.WriteString(countStyles[i].Render(strings.Repeat("█", n)))
		left -= n
	}
	return out.String() + strings.Repeat(" ", left)
}

// words describes the rates of a backend.
func (b BackendRates) words() string {
	var parts []string
	for i, c := range b.counts() {
		if c.n > 0 {
			parts = append(parts, countStyles[i].Render(fmt.Sprintf("%d/s %s", c.n, c.what)))
		}
	}
	return strings.Join(parts, "  ")
}

// countStyles colour the entries of BackendRates.counts.
var countStyles = [3]lipgloss.Style{green, red, blue}
