//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A node is drained: its agent stays, and the others know where the backends have gone.
func TestDrain(t *testing.T) {
	s := open(t, "nftables")
	s.policy(t, example(t))
	node := s.Nodes[1].Name
	s.kubectl(t, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
	s.kubectl(t, "rollout", "status", "-n=shop", "statefulset/orders", "--timeout=60s")
	s.backends = s.pods(t, "shop", "app=orders")
	agents := s.agents(t) // one on each node, as before
	for _, agent := range agents {
		eventually(t, 20*time.Second, "the agent of "+agent.Node+" knows the backends' new places", func() error {
			status := s.status(t, agent)
			if len(status.Policies) != 1 || len(status.Policies[0].Circuits) != len(s.backends) {
				return fmt.Errorf("policies %+v", status.Policies)
			}
			for _, backend := range s.backends {
				c := circuit(t, status, "orders", backend)
				if len(c.Endpoints) != 1 || c.Endpoints[0].Pod != backend.Name || c.Endpoints[0].Node == node {
					return fmt.Errorf("%s: %+v", backend.Name, c.Endpoints)
				}
			}
			return nil
		})
	}
	for _, caller := range s.callers {
		if got := s.call(t, caller, s.clusterIP+":80", "-count=30"); got.ByStatus[200] != 30 {
			t.Errorf("%s: %+v, want 30 of 30", caller.Name, got)
		}
	}
	s.asked(t, s.backends[0], 500)
	s.trip(t, s.backends[0])
}

// An agent that may not read its policies is not ready, and its pod says why and what mends it.
func TestForbidden(t *testing.T) {
	s := open(t, "nftables")
	s.kubectl(t, "delete", "rolebinding", "cbagent", "-n=cbagent")
	s.kubectl(t, "delete", "pods", "-n=cbagent", "--all", "--wait=false")
	eventually(t, 40*time.Second, "a pod says why it ended", func() error {
		const message = "jsonpath={.items[*].status.containerStatuses[0].lastState.terminated.message}"
		said := s.kubectl(t, "get", "pods", "-n=cbagent", "-o="+message)
		if !strings.Contains(said, "forbidden") || !strings.Contains(said, "resourceNames [cbagent-policy] in namespace cbagent") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	for _, agent := range s.pods(t, "cbagent", "app.kubernetes.io/name=cbagent") {
		if agent.Ready {
			t.Errorf("%s is ready without policies", agent.Name)
		}
	}

	s.kubectl(t, "apply", "-f", manifestPath)
	eventually(t, 90*time.Second, "the agents are ready again", func() error {
		for _, agent := range s.pods(t, "cbagent", "app.kubernetes.io/name=cbagent") {
			if !agent.Ready {
				return fmt.Errorf("%s is not", agent.Name)
			}
		}
		return nil
	})
}
