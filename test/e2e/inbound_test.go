package e2e

import (
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// inboundPlaces are ways of a remote client into the node that the agent is on.
var inboundPlaces = map[string]func(t *testing.T) place{
	"pod":       func(t *testing.T) place { return uplinkPlace(t, false) },
	"pod IPv6":  func(t *testing.T) place { return uplinkPlace(t, true) },
	"node":      func(t *testing.T) place { return remoteNodePlace(t, false) },
	"node IPv6": func(t *testing.T) place { return remoteNodePlace(t, true) },
	"node port": func(t *testing.T) place {
		p := uplinkPlace(t, false)
		p.dial = netip.MustParseAddrPort("10.22.0.1:30080")
		nft(t, p.node, `table ip nat {
			chain prerouting { type nat hook prerouting priority -100; tcp dport 30080 dnat to 10.21.1.2:8080; }
			chain postrouting { type nat hook postrouting priority 100; ip daddr 10.21.1.2 masquerade; }
		}`)
		return p
	},
	"VXLAN":    func(t *testing.T) place { return throughTunnel(t, vxlan, false) },
	"TUN":      func(t *testing.T) place { return throughTunnel(t, tun(true), false) },
	"TUN IPv6": func(t *testing.T) place { return throughTunnel(t, tun(false), true) },
}

var inbound = []string{"direction: inbound"}

// uplinkPlace is from the far side of the default route to a pod.
func uplinkPlace(t *testing.T, v6 bool) place {
	star := newStar(t, netlab.Options{Backends: 2, Remote: true})
	p := backendsPlace(t, star, v6)
	p.client, p.policy, p.interfaces = star.Remote, inbound, []string{"be*", "up0"}
	return p
}

// throughTunnel is from another node, through a tunnel, to a pod.
func throughTunnel(t *testing.T, connect joint, v6 bool) place {
	s := newFarStar(t, connect)
	p := backendsPlace(t, s.Star, v6)
	p.node, p.policy, p.interfaces = s.Far, inbound, []string{"be*", s.Device}
	return p
}

// nodePlace is from a pod to a process of the node.
func nodePlace(t *testing.T, v6 bool) place {
	return toNode(t, newStar(t, netlab.Options{}), v6)
}

// remoteNodePlace is from the far side of the default route to a process of the node.
func remoteNodePlace(t *testing.T, v6 bool) place {
	star := newStar(t, netlab.Options{Remote: true})
	p := toNode(t, star, v6)
	p.client, p.policy, p.interfaces = star.Remote, inbound, []string{"cl0", "up0", "lo"}
	return p
}

func toNode(t *testing.T, star *netlab.Star, v6 bool) place {
	addr := netlab.NodeIPv4
	if v6 {
		addr = netlab.NodeIPv6
	}
	p := place{
		client: star.Client, node: star.Node, home: star.Node, interfaces: []string{"cl0", "lo"}, onNode: true,
		backend: netip.AddrPortFrom(addr, port), neighbour: netip.AddrPortFrom(addr, port+1),
	}
	p.dial = p.backend
	p.server, p.other = serve(t, star.Node, p.backend), serve(t, star.Node, p.neighbour)
	return p
}
