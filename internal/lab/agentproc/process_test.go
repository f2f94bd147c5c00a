package agentproc

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// start runs a shell script in the agent's place.
func start(t *testing.T, script string) *Process {
	t.Helper()
	var lab netlab.Lab
	n, err := lab.Namespace("node")
	if err != nil {
		t.Fatalf("%v (namespaces need root)", err)
	}
	p, err := Start(n, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// soon is a context that ends a test which waits in vain.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const (
	ready      = `echo '{"level":"INFO","msg":"ready"}' >&2; `
	opens      = `echo '{"msg":"transition","backend":"10.21.2.2:8080","from":"closed","to":"open","at_unix_ns":2000000000}' >&2; `
	endsOnTERM = `trap 'exit 0' TERM; ` // before it says that it is ready
	ignores    = `trap '' TERM; `
	waits      = `while :; do sleep 0.02; done`
)

func TestLife(t *testing.T) {
	rootonly.Test(t)
	p := start(t, endsOnTERM+ready+opens+waits)
	if err := p.AwaitReady(soon(t)); err != nil {
		t.Fatal(err)
	}
	got, err := p.Await(soon(t), "10.21.2.2:8080", "open", time.Unix(2, 0))
	if err != nil || got.From != "closed" || !got.At.Equal(time.Unix(2, 0)) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, c := range []struct {
		backend, to string
		since       time.Time
	}{{"10.21.3.2:8080", "open", time.Time{}}, {"10.21.2.2:8080", "closed", time.Time{}}, {"10.21.2.2:8080", "open", time.Unix(3, 0)}} {
		if t2, found, _ := p.Find(c.backend, c.to, c.since); found {
			t.Errorf("%+v: found %+v", c, t2)
		}
	}
	if n := len(p.Transitions()); n != 1 {
		t.Errorf("%d transitions, want 1", n)
	}
	for range 2 {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestEndsThatAreErrors(t *testing.T) {
	rootonly.Test(t)
	p := start(t, `echo "cbagent: this kernel lacks tcx" >&2; exit 1`)
	if err := p.AwaitReady(soon(t)); err == nil || !strings.Contains(err.Error(), "lacks tcx") {
		t.Errorf("not ready: got %v, want what the agent said", err)
	}
	p = start(t, ready+`echo '{"level":"ERROR","msg":"poll","error":"ring is gone"}' >&2; exit 3`)
	if _, err := p.Await(soon(t), "*", "open", time.Time{}); err == nil || !strings.Contains(err.Error(), "poll: ring is gone") {
		t.Errorf("no transition: got %v, want what the agent said", err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("stop: got %v, want the exit status", err)
	}
	p = start(t, ignores+ready+waits)
	p.grace = 50 * time.Millisecond
	if err := p.AwaitReady(soon(t)); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Await(canceled, "*", "open", time.Time{}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("canceled: got %v", err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("stop: got %v, want that it had to be killed", err)
	}
}
