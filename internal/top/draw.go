package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/cbagent/cbagent/internal/console"
)

var (
	bold   = lipgloss.NewStyle().Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	chosen = lipgloss.NewStyle().Reverse(true)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
)

// stateStyles are the colours of the states.
var stateStyles = map[string]lipgloss.Style{
	"closed": green, "open": red, "half-open": lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	"forced-open": lipgloss.NewStyle().Foreground(lipgloss.Magenta), "disabled": lipgloss.NewStyle().Foreground(lipgloss.Blue),
}

// View draws the screen.
func (m Model) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

func (m Model) text() string {
	if m.stopped {
		return ""
	}
	lines := m.header()
	switch {
	case !m.known:
	case m.detail:
		lines = append(lines, m.detailLines()...)
	default:
		lines = append(lines, m.table(m.height-len(lines)-2)...)
	}
	help := "↑↓ choose  enter detail  sort: s state, r requests, a rejected, f failed, l latency, n name  q quit"
	if m.detail {
		help = "esc back  ↑↓ next circuit  q quit"
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, m.height-1)], faint.Render(help))
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "…")
	}
	return strings.Join(lines, "\n")
}

func (m Model) header() []string {
	s := &m.status
	if !m.known && m.err == nil {
		return []string{"asking the agent ..."}
	}
	var lines []string
	if m.known {
		states := map[string]int{}
		for i := range s.Policies {
			for state, n := range s.Policies[i].States {
				states[state] += n
			}
		}
		var parts []string
		for _, state := range slices.SortedFunc(maps.Keys(states), func(x, y string) int { return urgency(x) - urgency(y) }) {
			parts = append(parts, stateStyles[state].Render(fmt.Sprintf("%d %s", states[state], state)))
		}
		var requests, away float64
		for _, r := range m.rows {
			requests += latest(r.requests)
			away += latest(r.away)
		}
		lines = append(lines,
			bold.Render("cbagent "+s.Agent.Version)+"  up "+console.Age(s.Time.Sub(s.Agent.Started))+"  "+strings.Join(parts, ", "),
			fmt.Sprintf("%s requests/s, %s rejected/s; sorted by %s", rate(requests), rate(away), orders[m.order].name))
		problems := console.Problems(s)
		most := max(1, m.height/6) // circuits need room too
		for i, p := range problems {
			if i == most-1 && len(problems) > most {
				lines = append(lines, red.Render(fmt.Sprintf("! %d things are wrong: see cbagent status", len(problems))))
				break
			}
			lines = append(lines, red.Render("! "+p))
		}
	}
	if m.err != nil {
		lines = append(lines, red.Render("! "+m.err.Error()))
	}
	return append(lines, "")
}

// columns of the table: name, width, whether the content is aligned at the right.
var columns = []struct {
	name  string
	width int
	right bool
}{
	{"POLICY", 16, false}, {"BACKEND", 24, false}, {"STATE", 12, false}, {"SINCE", 7, true}, {"REQ/S", 8, true},
	{"AWAY/S", 8, true}, {"FAILED", 7, true}, {"P99", 8, true}, {"CONNS", 6, true}, {"REQUESTS, TURNED AWAY", 41, false},
}

// table draws as many rows as fit, among them the selected one.
func (m Model) table(height int) []string {
	var head []string
	for _, c := range columns {
		head = append(head, cell(c.name, c.width, c.right))
	}
	lines := []string{faint.Render(strings.Join(head, " "))}
	if len(m.shown) == 0 {
		return append(lines, "no circuits")
	}
	height = max(height-1, 1)
	at := m.position()
	first := max(0, min(at-height/2, len(m.shown)-height))
	for i := first; i < min(first+height, len(m.shown)); i++ {
		lines = append(lines, m.line(m.shown[i], i == at))
	}
	return lines
}

func (m Model) line(r *row, isChosen bool) string {
	mark := r.State
	if r.Override != nil {
		mark += "*"
	}
	values := []string{
		r.Policy, r.Backend, mark, console.Age(m.status.Time.Sub(r.Since)), rate(latest(r.requests)), rate(latest(r.away)),
		console.Percent(r.Window.FailureRate), console.Millis(r.LatencyP99), fmt.Sprint(r.Connections),
	}
	var cells []string
	for i, v := range values {
		text := cell(v, columns[i].width, columns[i].right)
		switch {
		case isChosen:
			text = chosen.Render(text)
		case i == 2:
			text = stateStyles[r.State].Render(text)
		case i == 5 && latest(r.away) > 0:
			text = red.Render(text)
		}
		cells = append(cells, text)
	}
	curve := green.Render(spark(r.requests, 20)) + " " + red.Render(spark(r.away, 20))
	return strings.Join(append(cells, curve), " ")
}

// detailLines draw one circuit.
func (m Model) detailLines() []string {
	r := m.rows[m.cursor]
	if r == nil {
		return nil
	}
	lines := []string{bold.Render(r.Policy+" / "+r.Backend) + "  " + stateStyles[r.State].Render(r.State) + "  " + r.Direction + ", " + r.Mode}
	for line := range strings.Lines(console.Explain(&r.Circuit, m.status.Time)) {
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	lines = append(lines, "",
		fmt.Sprintf("%9s %-8s %s", "requests", rate(latest(r.requests)), green.Render(spark(r.requests, points))),
		fmt.Sprintf("%9s %-8s %s", "away", rate(latest(r.away)), red.Render(spark(r.away, points))), "",
		fmt.Sprintf("window    %d outcomes, %s failed, %s slow, mean %s", r.Window.Outcomes, console.Percent(r.Window.FailureRate),
			console.Percent(r.Window.SlowRate), console.Millis(r.Window.AvgLatency)),
		fmt.Sprintf("latency   p50 %s, p99 %s", console.Millis(r.LatencyP50), console.Millis(r.LatencyP99)),
		fmt.Sprintf("now       %d connections, %d in flight, backoff step %d", r.Connections, r.InFlight, r.Step),
		"outcomes  "+counts(r.Outcomes), "responses "+counts(r.Responses), "away      "+counts(r.Rejected))
	for _, e := range r.Endpoints {
		text := e.Kind + " " + e.Source
		if e.Pod != "" {
			text += ", pod " + e.Namespace + "/" + e.Pod + " on " + e.Node
		}
		lines = append(lines, "backend   "+e.Address+", "+text)
	}
	lines = append(lines, "")
	for i := len(m.events) - 1; i >= 0; i-- {
		lines = append(lines, faint.Render(console.Record(&m.events[i])))
	}
	return lines
}

func counts(all map[string]uint64) string {
	if len(all) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, fmt.Sprintf("%d %s", all[name], name))
	}
	return strings.Join(parts, ", ")
}

func rate(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r < 10:
		return fmt.Sprintf("%.1f", r)
	case r < 10000:
		return fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("%.1fk", r/1000)
}

// cell cuts or fills a text to a width.
func cell(text string, width int, right bool) string {
	text = ansi.Truncate(text, width, "…")
	pad := strings.Repeat(" ", width-ansi.StringWidth(text))
	if right {
		return pad + text
	}
	return text + pad
}
