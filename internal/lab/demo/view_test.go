package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

var openMoment = Snapshot{
	Elapsed: 6200 * time.Millisecond, Progress: 0.5, Phase: Open, Kernel: 1234,
	Backends: []BackendRates{
		{Name: "b1", State: "closed", OK: 300},
		{Name: "b2", State: "open", Failed: 5, Kernel: 280},
	},
}

func TestPicture(t *testing.T) {
	var model screen
	if model.text() != "" {
		t.Errorf("there is a picture before anything happened: %q", model.text())
	}
	for _, msg := range []any{said("hello"), openMoment} {
		next, _ := model.Update(msg)
		model = next.(screen)
	}
	want := `hello

  open       the circuit of b2 is open: the node's kernel answers for it

  b1  closed     ███████████████████████        300/s ok
  b2  open       ██████████████████████         5/s failed  280/s answered by the kernel

  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  6.2s  1234 answers by the kernel
`
	if got := ansi.Strip(model.text()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(model.text(), red.Render("open     ")) {
		t.Error("an open circuit is not red")
	}
}

func TestBarsFitWhateverTheRates(t *testing.T) {
	for _, b := range []BackendRates{{}, {OK: 1}, {OK: 1, Failed: 1, Kernel: 1}, {OK: 1e6, Failed: 1e6, Kernel: 1e6}} {
		if got := ansi.StringWidth(b.bar()); got != barWidth {
			t.Errorf("%+v: %d columns, want %d", b, got, barWidth)
		}
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := NewLines(&out)
	l.Say("hello")
	l.Show(openMoment)
	again := openMoment
	again.Elapsed += 500 * time.Millisecond
	l.Show(again)
	again.Elapsed += 500 * time.Millisecond
	l.Show(again)
	want := "hello\n" +
		"  6.2s open       b1 closed: 300/s ok  b2 open: 5/s failed 280/s answered by the kernel\n" +
		"  7.2s open       b1 closed: 300/s ok  b2 open: 5/s failed 280/s answered by the kernel\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestSnapshotCountsTheLastSecond(t *testing.T) {
	r := &recorder{rec: *good()}
	got := r.snapshot(at(1300), quick, r.rec.transitions)
	// Of the requests between 300 and 600 ms.
	if b := got.Backends[0]; b != (BackendRates{Name: "b1", State: "closed", OK: 30}) {
		t.Errorf("b1: %+v", b)
	}
	if b := got.Backends[1]; b != (BackendRates{Name: "b2", State: "closed", OK: 20, Kernel: 10}) {
		t.Errorf("b2: %+v", b)
	}
	if got.Kernel != 20 || got.Progress != 1 || got.Phase != Closed || got.Elapsed != 1300*time.Millisecond {
		t.Errorf("%+v", got)
	}
}

func TestBackendsTakeTurnsInNames(t *testing.T) {
	if got := backendName(failing); got != "b2" {
		t.Errorf("the failing backend is called %s in the code and b2 in what is said", got)
	}
}
