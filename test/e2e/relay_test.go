package e2e

import (
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
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

// impair sets what relays do to frames in both directions. The returned function fails the test unless they have done all
// of that to some.
func impair(t *testing.T, i netlab.Impairment, relays ...*netlab.Relay) (impaired func()) {
	t.Helper()
	for _, r := range relays {
		r.Forward.Set(i)
		r.Backward.Set(i)
	}
	return func() {
		t.Helper()
		for n, r := range relays {
			for name, d := range map[string]*netlab.Direction{"forward": r.Forward, "backward": r.Backward} {
				got := d.Counts()
				if i.Loss > 0 && got.Lost == 0 || i.Duplicate > 0 && got.Duplicated == 0 || i.Reorder > 0 && got.Reordered == 0 ||
					i.Delay+i.Jitter > 0 && got.Delayed == 0 {
					t.Errorf("relay %d, %s: %+v, want some of all that was to happen", n, name, got)
				}
			}
			if lost, err := r.Overruns(); err != nil || lost > 0 {
				t.Errorf("relay %d was too slow for %d frames, %v", n, lost, err)
			}
		}
	}
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
