package e2e

import (
	"testing"

	"github.com/cbagent/cbagent/internal/netlab"
)

// relayed is a plain place whose links can be impaired: forward goes to the backend.
type relayed struct {
	place
	clients  *netlab.Relay // between the client and the node
	backends *netlab.Relay // between the node and the backend
}

// relayPlace is from the client through the node to b1, with b2 as the neighbour, over relays that do nothing yet.
func relayPlace(t *testing.T) relayed {
	star := newStar(t, netlab.Options{Backends: 2, ClientRelay: true, BackendRelays: true, Seed: 1})
	return relayed{place: backendsPlace(t, star, false), clients: star.ClientRelay, backends: star.Backends[0].Relay}
}

// loseData loses the first n segments with data in a direction.
func loseData(d *netlab.Direction, n int) {
	d.SetHook(func(frame []byte) netlab.Fate {
		s, ok := netlab.ParseSegment(frame)
		if !ok || len(s.Payload) == 0 || n == 0 {
			return netlab.Fate{}
		}
		n--
		return netlab.Fate{Drop: true}
	})
}
