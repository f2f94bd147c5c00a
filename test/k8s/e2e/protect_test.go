//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The main job, with kube-proxy in each of its modes: one backend of a Service fails,
// and its clients, wherever they are and however they call, are answered by their own
// node's kernel, while the other backends and the kubelet notice nothing.
func TestProtect(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			s := open(t, mode)
			s.policy(t, example(t))
			failing, healthy := s.backends[1], []pod{s.backends[0], s.backends[2]}
			s.asked(t, failing, 500)
			s.trip(t, failing)

			t.Run("by pod address", func(t *testing.T) {
				before := s.asked(t, failing)
				for _, client := range s.clients {
					got := s.call(t, client, failing.IP+":8080", "-count=20")
					if got.ByKernel["open"] != 20 || got.ByStatus[503] != 20 {
						t.Errorf("%s to the failing backend: %+v, want 20 answers of the kernel", client.Name, got)
					}
					for _, backend := range healthy {
						if got := s.call(t, client, backend.IP+":8080", "-count=20"); got.ByBackend[backend.Name] != 20 {
							t.Errorf("%s to %s: %+v, want 20 of 20", client.Name, backend.Name, got)
						}
					}
				}
				if after := s.asked(t, failing); after.total() != before.total() {
					t.Errorf("%d requests reached the failing backend", after.total()-before.total())
				}
			})

			t.Run("by ClusterIP", func(t *testing.T) {
				before := s.asked(t, failing)
				for _, client := range s.clients {
					got := s.call(t, client, s.clusterIP+":80", "-count=60")
					if got.ByStatus[200]+got.ByKernel["open"] != 60 || got.ByKernel["open"] == 0 {
						t.Errorf("%s: %+v, want 200s and answers of the kernel, 60 in all", client.Name, got)
					}
					if got.ByBackend[failing.Name] != 0 {
						t.Errorf("%s was answered by the failing backend: %+v", client.Name, got)
					}
				}
				if after := s.asked(t, failing); after.total() != before.total() {
					t.Errorf("%d requests reached the failing backend", after.total()-before.total())
				}
			})

			t.Run("the kubelet's probes pass", func(t *testing.T) {
				before := s.asked(t, failing).Probes
				eventually(t, 15*time.Second, "ten more probes of the failing pod", func() error {
					if n := s.asked(t, failing).Probes - before; n < 10 {
						return fmt.Errorf("%d so far", n)
					}
					return nil
				})
				for _, p := range s.pods(t, "shop", "app=orders") {
					if p.Restarts != 0 || !p.Ready {
						t.Errorf("%s: restarted %d times, ready: %v", p.Name, p.Restarts, p.Ready)
					}
				}
			})

			t.Run("the pod tells", func(t *testing.T) {
				for _, node := range s.Nodes {
					eventually(t, 10*time.Second, "an Event of "+node.Name+" on the pod", func() error {
						said := s.kubectl(t, "describe", "pod", "-n=shop", failing.Name)
						want := "node " + node.Name + " rejects clients of " + failing.IP + ":8080 (policy orders): consecutiveFailures is 5"
						if !strings.Contains(said, "CircuitOpened") || !strings.Contains(said, want) {
							return fmt.Errorf("kubectl describe says %s, want %q", said, want)
						}
						return nil
					})
				}
				if said := s.kubectl(t, "get", "events", "-n=shop", "-o=name", "--field-selector=reason=CircuitOpened,involvedObject.name="+healthy[0].Name); said != "" {
					t.Errorf("Events on a healthy pod: %s", said)
				}
			})

			t.Run("status tells the truth", func(t *testing.T) {
				for _, agent := range s.agents(t) {
					status := s.status(t, agent)
					if !status.Agent.Ready || status.Agent.Node != agent.Node {
						t.Errorf("the agent of %s says ready %v on node %q", agent.Node, status.Agent.Ready, status.Agent.Node)
					}
					for _, backend := range s.backends {
						// Also of backends on the other node.
						c, want := circuit(t, status, "orders", backend), "closed"
						if backend == failing {
							want = "open"
						}
						if c.State != want || (c.Rejected["open"] > 0) != (want == "open") {
							t.Errorf("%s: circuit of %s is %s, rejected %v; want %s", agent.Node, backend.Name, c.State, c.Rejected, want)
						}
						if len(c.Endpoints) != 1 || c.Endpoints[0].Pod != backend.Name || c.Endpoints[0].Node != backend.Node {
							t.Errorf("%s: endpoints of %s are %+v", agent.Node, backend.Name, c.Endpoints)
						}
					}
				}
			})

			t.Run("a changed policy takes effect", func(t *testing.T) {
				s.policy(t, strings.Replace(example(t), "status: 503", "status: 418", 1))
				for _, client := range s.clients {
					eventually(t, 20*time.Second, client.Name+" is answered with 418", func() error {
						got := s.call(t, client, failing.IP+":8080")
						if got.ByStatus[418] != 1 || got.ByKernel["open"] != 1 {
							return fmt.Errorf("%+v", got)
						}
						return nil
					})
				}
				s.policy(t, example(t))
			})

			t.Run("the backend comes back elsewhere", func(t *testing.T) {
				s.kubectl(t, "delete", "pod", "-n=shop", failing.Name)
				s.kubectl(t, "rollout", "status", "-n=shop", "statefulset/orders", "--timeout=60s")
				var fresh pod
				for _, p := range s.pods(t, "shop", "app=orders") {
					if p.Name == failing.Name {
						fresh = p
					}
				}
				if fresh.IP == failing.IP || fresh.IP == "" {
					t.Fatalf("%s has the address %q, and had %q: want another", fresh.Name, fresh.IP, failing.IP)
				}
				for _, client := range s.clients {
					if got := s.call(t, client, fresh.IP+":8080", "-count=20"); got.ByBackend[fresh.Name] != 20 {
						t.Errorf("%s: %+v, want 20 of 20 from the new address", client.Name, got)
					}
				}
				// It is watched under its new address as well.
				s.asked(t, fresh, 500)
				s.trip(t, fresh)
			})
		})
	}
}

// trip has a client on each node call the failing backend until its node's kernel
// answers.
func (s *shop) trip(t *testing.T, failing pod) {
	t.Helper()
	for _, client := range s.clients {
		eventually(t, 30*time.Second, "the circuit opens on "+client.Node, func() error {
			got := s.call(t, client, failing.IP+":8080", "-count=10")
			if got.ByKernel["open"] == 0 {
				return errors.New("the kernel has answered nothing")
			}
			return nil
		})
	}
}
