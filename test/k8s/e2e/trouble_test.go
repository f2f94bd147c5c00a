//go:build e2e

package e2e

import (
	"fmt"
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
	for _, client := range s.clients {
		if got := s.call(t, client, s.clusterIP+":80", "-count=30"); got.ByStatus[200] != 30 {
			t.Errorf("%s: %+v, want 30 of 30", client.Name, got)
		}
	}
	s.asked(t, s.backends[0], 500)
	s.trip(t, s.backends[0])
}
