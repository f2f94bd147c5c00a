//go:build zoo

package zoo

import (
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// stage is a client's namespace, a node and a backend's namespace with servers.
type stage struct {
	*netlab.Star
	t       *testing.T
	servers []*serving
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
