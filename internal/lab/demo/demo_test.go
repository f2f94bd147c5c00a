package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// quick is a script without waiting.
var quick = Script{Healthy: 300 * time.Millisecond, Open: 500 * time.Millisecond, Heal: 100 * time.Millisecond,
	Closed: 200 * time.Millisecond, Patience: 500 * time.Millisecond, Limit: 20 * time.Second}

// runWith runs the demo with a shell script in the agent's place, and returns what was shown.
func runWith(t *testing.T, ctx context.Context, script string) (Report, string, error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	report, err := Run(ctx, Options{Agent: []string{"sh", "-c", script}, Script: quick, View: NewLines(&out)})
	left, globErr := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if globErr != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, globErr)
	}
	return report, out.String(), err
}

const (
	sayReady = `trap 'exit 0' TERM; echo '{"level":"INFO","msg":"ready"}' >&2; `
	waitTERM = `while :; do sleep 0.02; done`
)

func TestAgentThatCannotStart(t *testing.T) {
	rootonly.Test(t)
	_, _, err := runWith(t, context.Background(), `echo "cbagent: this kernel lacks tcx" >&2; exit 1`)
	if err == nil || errors.Is(err, ErrFaults) || !strings.Contains(err.Error(), "this kernel lacks tcx") {
		t.Errorf("got %v, want an error with what the agent said", err)
	}
}

func TestAgentThatDiesInMidDemo(t *testing.T) {
	rootonly.Test(t)
	_, _, err := runWith(t, context.Background(), sayReady+`echo '{"level":"ERROR","msg":"poll","error":"ring is gone"}' >&2; sleep 0.1; exit 3`)
	if err == nil || errors.Is(err, ErrFaults) || !strings.Contains(err.Error(), "poll: ring is gone") {
		t.Errorf("got %v, want an error with what the agent said", err)
	}
}

func TestAgentThatDoesNothing(t *testing.T) {
	rootonly.Test(t)
	report, shown, err := runWith(t, context.Background(), sayReady+waitTERM)
	if !errors.Is(err, ErrFaults) {
		t.Fatalf("got %v, want ErrFaults", err)
	}
	for _, want := range []string{"was not open within", `"closed" was never reached`, "the kernel answered no request"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if report.OK || report.AnsweredByKernel != 0 || report.LeakedRequests == 0 || report.OtherBackendsFailed != 0 {
		t.Errorf("report %+v: want leaked requests, and nothing by the kernel", report)
	}
	if len(report.Phases) != 2 || report.Phases[0].ByStatus["200"] == 0 || report.Phases[1].ByStatus["500"] == 0 {
		t.Errorf("phases %+v: want 200s in the first and 500s in the second", report.Phases)
	}
	for _, want := range []string{"b2 answers 500 from now on", "b2 closed:", "/s failed"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q was not shown in:\n%s", want, shown)
		}
	}
}

// The report detects an agent that logs transitions but rejects no clients.
func TestAgentThatLies(t *testing.T) {
	rootonly.Test(t)
	claim := func(backend, from, to string) string {
		return `echo '{"msg":"transition","backend":"10.21.` + backend + `.2:8080","from":"` + from + `","to":"` + to +
			`","at_unix_ns":'$(date +%s%N)'}' >&2; `
	}
	report, _, err := runWith(t, context.Background(), sayReady+`sleep 0.5; `+claim("1", "closed", "open")+claim("2", "closed", "open")+
		`sleep 0.4; `+claim("2", "open", "half-open")+claim("2", "half-open", "closed")+waitTERM)
	if !errors.Is(err, ErrFaults) {
		t.Fatalf("got %v, want ErrFaults", err)
	}
	for _, want := range []string{
		"the circuit of 10.21.1.2:8080, which was well, went from closed to open",
		"the kernel answered no request",
		"requests reached the failing backend after its circuit had opened",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if report.OK || len(report.Phases) != int(phases) {
		t.Errorf("report %+v: want all phases, and not ok", report)
	}
}

func TestInterrupted(t *testing.T) {
	rootonly.Test(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(500*time.Millisecond, cancel)
	_, _, err := runWith(t, ctx, sayReady+waitTERM)
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrFaults) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestMissingCapabilitiesAreNamedAtOnce(t *testing.T) {
	err := missing(func(int) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") ||
		!strings.Contains(err.Error(), "root") {
		t.Errorf("got %v, want both capabilities and what to do", err)
	}
	if err := missing(func(int) bool { return true }); err != nil {
		t.Error(err)
	}
}
