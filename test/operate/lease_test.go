package operate

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// An agent that does not get to run lets clients through when its lease is over, and says so when it runs again.
func TestLateAgentIsTold(t *testing.T) {
	s := newStage(t, 1, []string{"trip: [{consecutiveFailures: 3}]", "open: {duration: 5m}"}, "--lease", "1s")
	s.agent.Expect("leaseExpired")
	s.servers[0].Set(testserver.Behaviour{Status: 500})
	began := time.Now()
	s.load(0, 3, 1)
	if _, err := s.agent.Await(soon(t), s.targets[0].String(), "open", began); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.load(0, 1, 1).ByOutcome); got != "map[503:1]" {
		t.Fatalf("clients got %s", got)
	}
	if err := syscall.Kill(s.agent.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	through := 0
	eventually(t, "the backend is reached", func() bool {
		through = s.load(0, 1, 1).ByOutcome["500"]
		return through > 0
	})
	if err := syscall.Kill(s.agent.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	stdout := ""
	eventually(t, "it is told", func() bool {
		stdout, _, _ = s.run("events")
		return strings.Contains(stdout, "the agent was too late to renew its lease, 1 client was let through  leaseExpired")
	})
	if got := s.scrape()["cbagent_lease_expired_admissions_total"]; got < 1 {
		t.Errorf("%g admissions counted", got)
	}
	eventually(t, "clients are rejected again", func() bool { return s.load(0, 1, 1).ByOutcome["503"] == 1 })
}
