package agentproc

import (
	"testing"
	"time"
)

func TestTransitionOfALogLine(t *testing.T) {
	l, ok := parseLine([]byte(`{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"transition","policy":"demo",` +
		`"backend":"10.21.2.2:8080","from":"closed","to":"open","reason":"consecutiveFailures","value":5,"threshold":5,` +
		`"step":1,"until":"2026-01-02T03:04:35.5Z","at_unix_ns":1700000000123456789}`))
	if !ok || l.Msg != msgTransition {
		t.Fatalf("not read: %+v", l)
	}
	want := Transition{
		Policy: "demo", Backend: "10.21.2.2:8080", From: "closed", To: "open",
		Reason: "consecutiveFailures", Value: 5, Threshold: 5, Step: 1,
		Until: time.Date(2026, 1, 2, 3, 4, 35, 500_000_000, time.UTC), At: time.Unix(0, 1700000000123456789),
	}
	got := l.transition()
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := got.Why(), "consecutiveFailures 5 of 5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Transition{Reason: "deadline"}).Why(); got != "deadline" {
		t.Errorf("got %q, want deadline alone", got)
	}
	if _, ok := parseLine([]byte("panic: runtime error")); ok {
		t.Error("a line that is not JSON was read")
	}
}

// The opening of a circuit is logged as a warning, and is none to who looks for faults.
func TestWarningsAreNoOpenings(t *testing.T) {
	p := &Process{changed: make(chan struct{})}
	const trouble = `{"level":"ERROR","msg":"state file not written","policy":"demo"}`
	for _, line := range []string{
		`{"level":"WARN","msg":"transition","policy":"demo","backend":"10.21.2.2:8080","from":"closed","to":"open"}`,
		`{"level":"WARN","msg":"override","policy":"demo","backend":"10.21.2.2:8080","from":"closed","to":"forced-open"}`,
		`{"level":"INFO","msg":"attached"}`,
		trouble,
	} {
		p.read([]byte(line))
	}
	if got := p.Warnings(); len(got) != 1 || got[0] != trouble {
		t.Errorf("got %q, want %q alone", got, trouble)
	}
}
