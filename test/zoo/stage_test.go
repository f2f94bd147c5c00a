//go:build zoo

package zoo

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// stage is a client's namespace, a node and a backend's namespace with servers.
type stage struct {
	*netlab.Star
	t       *testing.T
	servers []*serving
	agent   *agenttest.Agent // nil before startAgent
	control *control.Client
}

// newStage makes the network, without servers.
func newStage(t *testing.T) *stage {
	t.Helper()
	star, err := netlab.NewStar(netlab.Options{Backends: 1})
	if err != nil {
		t.Fatalf("%v (namespaces need root)", err)
	}
	t.Cleanup(func() {
		if err := star.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stage{Star: star, t: t}
}

// firstPort is the port of a stage's first server; the others have the next ones.
const firstPort = 8080

// serve starts one more server, with a port of its own.
func (s *stage) serve(kind server) *serving {
	s.t.Helper()
	target := netip.AddrPortFrom(s.Backends[0].IPv4, uint16(firstPort+len(s.servers)))
	server := serve(s.t, s.Backends[0].Namespace, kind, target.String())
	s.servers = append(s.servers, server)
	return server
}

// startAgent starts the agent on the node with one policy for all servers, and returns when it is ready. keys are further
// lines of the policy.
func (s *stage) startAgent(keys ...string) {
	s.t.Helper()
	var policy strings.Builder
	policy.WriteString("version: 1\npolicies:\n- name: zoo\n  match:\n    addresses:\n")
	for _, server := range s.servers {
		fmt.Fprintf(&policy, "    - %q\n", server.target)
	}
	for _, key := range keys {
		fmt.Fprintf(&policy, "  %s\n", key)
	}
	path := filepath.Join(s.t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(policy.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.agent = agenttest.Start(s.t, s.Node, agentBinary, "run", "--policy", path, "--interface", s.Backends[0].Interface)
	ctx, cancel := context.WithTimeout(context.Background(), loading)
	defer cancel()
	if err := s.agent.AwaitReady(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.control = control.NewClient(s.agent.ControlSocket())
	s.t.Cleanup(s.control.Close)
}

// circuit returns a server's circuit as the status shows it.
func (s *stage) circuit(server *serving) control.Circuit {
	s.t.Helper()
	status, err := s.control.Status(soon(s.t), "zoo/"+server.target)
	if err != nil {
		s.t.Fatal(err)
	}
	return status.Policies[0].Circuits[0]
}

// override applies an operator's order.
func (s *stage) override(o control.Override) {
	s.t.Helper()
	if _, err := s.control.Override(soon(s.t), o); err != nil {
		s.t.Fatal(err)
	}
}

// changed returns when a server's circuit got a state, since a moment.
func (s *stage) changed(server *serving, to string, since time.Time) time.Time {
	s.t.Helper()
	change, err := s.agent.Await(soon(s.t), server.target, to, since)
	if err != nil {
		s.t.Fatal(err)
	}
	return change.At
}
