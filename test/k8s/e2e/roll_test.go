//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

// While agents are replaced, killed and upgraded under load, circuits stay open: no request reaches the failing
// backend, and none to a healthy one fails.
func TestRoll(t *testing.T) {
	s := open(t, "nftables")
	s.policy(t, example(t))
	failing, healthy := s.backends[1], s.backends[0]
	s.asked(t, failing, 500)
	s.trip(t, failing)

	steps := []struct {
		name, command string
	}{
		{"rolled", "rollout restart -n=cbagent daemonset/cbagent"},
		{"killed", "delete pods -n=cbagent --all --force --grace-period=0 --wait=false"},
		{"upgraded", "set image -n=cbagent daemonset/cbagent cbagent=ghcr.io/cbagent/cbagent:next"},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			before := s.asked(t, failing)
			agents := s.pods(t, "cbagent", "app.kubernetes.io/name=cbagent")
			finish := s.load(t, failing, healthy)
			s.kubectl(t, strings.Fields(step.command)...)
			s.kubectl(t, "rollout", "status", "-n=cbagent", "daemonset/cbagent", "--timeout=60s")
			rejected, served := finish()

			for _, old := range agents {
				for _, now := range s.pods(t, "cbagent", "app.kubernetes.io/name=cbagent") {
					if now.Name == old.Name {
						t.Errorf("%s was not replaced", old.Name)
					}
				}
			}
			for i, client := range s.clients {
				if got := rejected[i]; got.ByKernel["open"] != got.Requests || got.Requests == 0 {
					t.Errorf("%s to the failing backend: %+v, want the kernel's answer to all", client.Name, got)
				}
				if got := served[i]; got.ByBackend[healthy.Name] != got.Requests || got.Requests == 0 {
					t.Errorf("%s to %s: %+v, want 200 for all", client.Name, healthy.Name, got)
				}
			}
			if after := s.asked(t, failing); after.total() != before.total() {
				t.Errorf("%d requests reached the failing backend", after.total()-before.total())
			}
		})
	}
}

// load has every client call both backends for a while, half of the time on new connections; the function that it
// returns waits for the end and gives what each client was answered.
func (s *shop) load(t *testing.T, failing, healthy pod) func() (rejected, served []tally) {
	t.Helper()
	rejected, served := make([]tally, len(s.clients)), make([]tally, len(s.clients))
	var running sync.WaitGroup
	for i, client := range s.clients {
		for into, backend := range map[*tally]pod{&rejected[i]: failing, &served[i]: healthy} {
			args := []string{"exec", "-n=shop", client.Name, "--", "/workload", "call", "-for=15s", "-pause=5ms"}
			if i%2 == 0 {
				args = append(args, "-keep-alive")
			}
			running.Go(func() {
				out, err := s.Kubectl(t.Context(), append(args, backend.IP+":8080")...)
				if err == nil {
					err = json.Unmarshal(out, into)
				}
				if err != nil {
					t.Errorf("%s to %s: %v", client.Name, backend.Name, err)
				}
			})
		}
	}
	return func() ([]tally, []tally) {
		running.Wait()
		return rejected, served
	}
}
