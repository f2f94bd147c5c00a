//go:build e2e

package e2e

import (
	"encoding/json"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
)

// agents are the agents' pods, in the order of their nodes.
func (s *shop) agents(t *testing.T) []pod {
	t.Helper()
	all := s.pods(t, "cbagent", "app.kubernetes.io/name=cbagent")
	if len(all) != len(s.Nodes) {
		t.Fatalf("%d agents on %d nodes", len(all), len(s.Nodes))
	}
	if all[0].Node > all[1].Node {
		all[0], all[1] = all[1], all[0]
	}
	return all
}

// status is what `cbagent status` says in the agent's pod.
func (s *shop) status(t *testing.T, agent pod) control.Status {
	t.Helper()
	var got control.Status
	out := s.kubectl(t, "exec", "-n=cbagent", agent.Name, "--", "/cbagent", "status", "-o=json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return got
}

// circuit finds that of a policy and a backend; the test fails where there is none.
func circuit(t *testing.T, status control.Status, policy string, backend pod) control.Circuit {
	t.Helper()
	for _, p := range status.Policies {
		for _, c := range p.Circuits {
			if p.Name == policy && c.Backend == backend.IP+":8080" {
				return c
			}
		}
	}
	t.Fatalf("%s knows no circuit of %s (%s) in policy %s", status.Agent.Node, backend.Name, backend.IP, policy)
	return control.Circuit{}
}
