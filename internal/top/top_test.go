package top

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

var updateFiles = flag.Bool("update", false, "write the files that the tests compare with")

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// script is a source that returns one status after the other.
type script struct {
	all   []control.Status
	asked []string
	err   error
}

func (s *script) Status(context.Context, string) (control.Status, error) {
	if s.err != nil {
		return control.Status{}, s.err
	}
	next := s.all[0]
	s.all = s.all[1:]
	return next, nil
}

func (s *script) Events(_ context.Context, target string, _ int, _ bool, f func(view.Record) error, _ func(uint64)) error {
	s.asked = append(s.asked, target)
	return f(view.Record{Time: time.Unix(1767323035, 0), Kind: "transition", Policy: "orders", Backend: "192.0.2.7:8080", From: "closed", To: "open", Reason: "consecutiveFailures"})
}

// statuses are n of an incident, a second apart, while traffic goes on.
func statuses(t *testing.T, n int) []control.Status {
	s := viewtest.Incident(t)
	var all []control.Status
	for range n {
		all = append(all, control.NewStatus(s, control.Target{}))
		s.At = s.At.Add(time.Second)
		s.Clock += int64(time.Second)
		s.Policies[0].Circuits[0].Totals.Rejected[0][0] += 25
		s.Policies[0].Circuits[1].Totals.Admitted += 7
		s.Policies[1].Circuits[0].Totals.Admitted += 1200
	}
	return all
}

// next has the model ask and take the answer.
func next(m tea.Model) tea.Model {
	model := m.(Model)
	m, _ = m.Update(model.request(0)())
	return m
}

func press(m tea.Model, keys ...tea.Key) tea.Model {
	for _, k := range keys {
		m, _ = m.Update(tea.KeyPressMsg(k))
	}
	return m
}

func compare(t *testing.T, name string, m tea.Model) {
	t.Helper()
	var lines []string
	for _, line := range strings.Split(ansi.Strip(m.View().Content), "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	got := strings.Join(lines, "\n") + "\n"
	path := "testdata/" + name + ".txt"
	if *updateFiles {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what is drawn (go test ./internal/top -update writes it anew) (-want +got):\n%s", path, diff)
	}
}

func letter(r rune) tea.Key { return tea.Key{Code: r, Text: string(r)} }

func TestScreens(t *testing.T) {
	source := &script{all: statuses(t, 12)}
	var m tea.Model = New(source, "")
	m, _ = m.Update(tea.WindowSizeMsg{Width: 160, Height: 24})
	compare(t, "before", m)
	for range 5 {
		m = next(m)
	}
	compare(t, "by-state", m)
	m = press(m, letter('r'))
	compare(t, "by-requests", m)
	m = press(m, letter('s'), tea.Key{Code: tea.KeyEnter})
	m = next(m)
	compare(t, "detail", m)
	if len(source.asked) != 1 || source.asked[0] != "orders/192.0.2.7:8080" {
		t.Errorf("events were asked of %v", source.asked)
	}
	m = press(m, tea.Key{Code: tea.KeyEscape}, tea.Key{Code: tea.KeyDown}, tea.Key{Code: tea.KeyDown}, tea.Key{Code: tea.KeyDown}, tea.Key{Code: tea.KeyDown})
	m, _ = m.Update(tea.WindowSizeMsg{Width: 60, Height: 8})
	compare(t, "narrow", m)
	source.err = errors.New("no agent answers")
	m = next(m)
	if text := ansi.Strip(m.View().Content); !strings.Contains(text, "! no agent answers") {
		t.Errorf("the agent's end is not shown:\n%s", text)
	}
}

func TestQuit(t *testing.T) {
	m, cmd := New(&script{}, "").Update(tea.KeyPressMsg(letter('q')))
	if cmd == nil || m.View().Content != "" {
		t.Fatal("q does not quit")
	}
	if _, ok := cmd().(tea.QuitMsg); !ok {
		t.Error("q does not quit")
	}
}

// The chosen circuit leaves: the view goes back to the table and chooses another.
func TestChosenCircuitLeaves(t *testing.T) {
	all := statuses(t, 2)
	all[1].Policies = all[1].Policies[1:]
	var m tea.Model = New(&script{all: all}, "")
	m = press(next(m), tea.Key{Code: tea.KeyEnter})
	if !m.(Model).detail {
		t.Fatal("no detail")
	}
	m = next(m)
	if got := m.(Model); got.detail || got.cursor.policy != "mail" {
		t.Errorf("detail %v of %v", got.detail, got.cursor)
	}
}

func TestSpark(t *testing.T) {
	for _, c := range []struct {
		rates []float64
		want  string
	}{
		{nil, "    "}, {[]float64{0}, "    "}, {[]float64{1, 2, 4, 8}, "▂▃▅█"}, {[]float64{9, 0, 0.001, 8, 0}, " ▁█ "},
	} {
		if got := spark(c.rates, 4); got != c.want {
			t.Errorf("%v: %q, want %q", c.rates, got, c.want)
		}
	}
}

// Counts that go back are no rates.
func TestRates(t *testing.T) {
	all := statuses(t, 3)
	rows := update(nil, time.Time{}, &all[0])
	rows = update(rows, all[0].Time, &all[1])
	mail := key{"mail", "inbound", "*"}
	if got := rows[mail].requests; len(got) != 1 || got[0] != 1200 {
		t.Errorf("rates %v, want [1200]", got)
	}
	rows = update(rows, all[1].Time, &all[0])
	if got := rows[mail].requests; len(got) != 1 {
		t.Errorf("rates %v after counts went back", got)
	}
}
