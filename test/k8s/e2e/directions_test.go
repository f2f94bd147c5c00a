//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// An outbound and an inbound policy for the same Service: every request is judged once in each direction that it has,
// by the client's node as outbound, by the backend's node as inbound if it came from elsewhere.
func TestDirections(t *testing.T) {
	s := open(t, "nftables")
	both := strings.Replace(example(t), "consecutiveFailures: 5", "consecutiveFailures: 1000", 1)
	_, inbound, _ := strings.Cut(both, "policies:\n")
	inbound = strings.Replace(inbound, "name: orders", "name: orders-in\n  direction: inbound", 1)
	s.policy(t, both+inbound)

	const each = 25
	agents := s.agents(t)
	for _, agent := range agents {
		eventually(t, 20*time.Second, "both policies are in force on "+agent.Node, func() error {
			for _, p := range s.status(t, agent).Policies {
				if p.Name == "orders-in" && p.Backends == 3 {
					return nil
				}
			}
			return fmt.Errorf("not yet")
		})
	}
	for _, client := range s.clients {
		for _, backend := range s.backends {
			if got := s.call(t, client, backend.IP+":8080", fmt.Sprintf("-count=%d", each)); got.ByStatus[200] != each {
				t.Fatalf("%s to %s: %+v", client.Name, backend.Name, got)
			}
		}
	}

	for _, agent := range agents {
		for _, backend := range s.backends {
			var outbound, inbound uint64
			for _, client := range s.clients {
				switch {
				case client.Node == agent.Node:
					outbound += each
				case backend.Node == agent.Node:
					inbound += each
				}
			}
			eventually(t, 5*time.Second, agent.Node+" has counted the requests to "+backend.Name, func() error {
				status := s.status(t, agent)
				out := circuit(t, status, "orders", backend).Responses["200"]
				in := circuit(t, status, "orders-in", backend).Responses["200"]
				if out != outbound || in != inbound {
					return fmt.Errorf("outbound %d, inbound %d; want %d, %d", out, in, outbound, inbound)
				}
				return nil
			})
		}
	}
}
