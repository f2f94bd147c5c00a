package operate

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// A stopped agent makes no command hang: each ends in time, not well, and says why and what to do.
func TestStoppedAgent(t *testing.T) {
	s := newStage(t, 1, nil)
	pid := s.agent.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it cannot end before
	want := fmt.Sprintf("the agent at %s did not answer within 5s: its process %d is stopped; resume it with kill -CONT %d, or restart the agent", s.socket, pid, pid)
	var all sync.WaitGroup
	for _, args := range [][]string{
		{"status"}, {"status", "--watch"}, {"events"}, {"events", "--follow"}, {"events", "-o", "trace"}, {"policy"}, {"ready"}, {"doctor"},
		{"open", "orders", "--reason", "x"}, {"close", "orders", "--reason", "x"}, {"disable", "orders", "--reason", "x"}, {"auto", "orders", "--reason", "x"},
	} {
		all.Go(func() {
			began := time.Now()
			stdout, stderr, code := s.run(args...)
			took := time.Since(began)
			said, wantCode := stderr, 3
			if args[0] == "doctor" {
				said, wantCode = stdout, 1
			}
			if code != wantCode || !strings.Contains(said, want) {
				t.Errorf("%v: exit code %d, %q; want %d, ... %q", args, code, said, wantCode, want)
			}
			if took < control.CallTimeout || took > patience {
				t.Errorf("%v: took %s", args, took)
			}
		})
	}
	all.Wait()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.run("status"); code != 0 {
		t.Errorf("after it was resumed: exit code %d, %q", code, stderr)
	}
}
