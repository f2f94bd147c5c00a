package e2e

import (
	"net/netip"
	"path"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// place is a way from a client to a backend.
type place struct {
	client     *netlab.Namespace
	dial       netip.AddrPort // what the client dials
	backend    netip.AddrPort // what the backend is called after NAT
	neighbour  netip.AddrPort // another backend
	interfaces []string
	policy     []string // keys of its policy
	onNode     bool     // the backends are addresses of the node
	node       *netlab.Namespace
	home       *netlab.Namespace // of the backend
	server     *testserver.Server
	other      *testserver.Server
}

// interfacesNow returns the names of the interfaces that the patterns match.
func (p place) interfacesNow(t *testing.T) []string {
	t.Helper()
	links, err := p.node.Links().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		for _, pattern := range p.interfaces {
			if ok, err := path.Match(pattern, l.Attrs().Name); err != nil {
				t.Fatal(err)
			} else if ok {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	return names
}

// places makes the way for a test, by name. Each has a network of its own.
var places = map[string]func(t *testing.T) place{
	"IPv4": func(t *testing.T) place { return starPlace(t, netlab.Options{Backends: 2}, false) },
	"IPv6": func(t *testing.T) place { return starPlace(t, netlab.Options{Backends: 2}, true) },
	"bridge": func(t *testing.T) place {
		return starPlace(t, netlab.Options{Backends: 2, Bridge: true}, false)
	},
	"host process": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, false)
		p.client = p.node
		return p
	},
	"host process IPv6": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, true)
		p.client = p.node
		return p
	},
	"DNAT and masquerade": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, false)
		p.dial = netip.MustParseAddrPort("10.96.0.10:80")
		nft(t, p.node, `table ip nat {
			chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.10 tcp dport 80 dnat to 10.21.1.2:8080; }
			chain postrouting { type nat hook postrouting priority 100; ip daddr 10.21.1.2 masquerade; }
		}`)
		firewall(t, p.node)
		return p
	},
	"DNAT and masquerade IPv6": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, true)
		p.dial = netip.MustParseAddrPort("[2001:db8:96::10]:80")
		nft(t, p.node, `table ip6 nat {
			chain prerouting { type nat hook prerouting priority -100; ip6 daddr 2001:db8:96::10 tcp dport 80 dnat to [2001:db8:21:1::2]:8080; }
			chain postrouting { type nat hook postrouting priority 100; ip6 daddr 2001:db8:21:1::2 masquerade; }
		}`)
		return p
	},
	// A firewall that forwards nothing that connection tracking finds odd, as kube-proxy sets one up.
	"firewall": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, false)
		firewall(t, p.node)
		return p
	},
	"firewall IPv6": func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, true)
		firewall(t, p.node)
		return p
	},
	"client without timestamps": func(t *testing.T) place {
		return settingPlace(t, "net.ipv4.tcp_timestamps", "0")
	},
	"client with ECN": func(t *testing.T) place {
		return settingPlace(t, "net.ipv4.tcp_ecn", "1")
	},
	"client without SACK and window scaling": func(t *testing.T) place {
		p := settingPlace(t, "net.ipv4.tcp_sack", "0")
		set(t, p.client, "net.ipv4.tcp_window_scaling", "0")
		return p
	},
	"lo":      func(t *testing.T) place { return loPlace(t, "127.0.0.1", "127.0.0.2") },
	"lo IPv6": func(t *testing.T) place { return loPlace(t, "::1", "::1") },
	"node address on lo": func(t *testing.T) place {
		return loPlace(t, netlab.NodeIPv4.String(), netlab.NodeIPv4.String())
	},
	"node itself":      func(t *testing.T) place { return nodePlace(t, false) },
	"node itself IPv6": func(t *testing.T) place { return nodePlace(t, true) },

	"VXLAN":       func(t *testing.T) place { return farPlace(t, vxlan, false) },
	"VXLAN IPv6":  func(t *testing.T) place { return farPlace(t, vxlan, true) },
	"TUN":         func(t *testing.T) place { return farPlace(t, tun(false), false) },
	"TUN IPv6":    func(t *testing.T) place { return farPlace(t, tun(true), true) },
	"TUN offload": func(t *testing.T) place { return farPlace(t, tun(true), false) },
	"Geneve":      func(t *testing.T) place { return farPlace(t, geneve, false) },
	"IP in IP":    func(t *testing.T) place { return farPlace(t, ipip, false) },
	"GRE":         func(t *testing.T) place { return farPlace(t, gre, false) },
	"VLAN":        func(t *testing.T) place { return farPlace(t, vlan, false) },
	"pods, filtered": func(t *testing.T) place {
		p, star := podsPlace(t, false)
		set(t, star.Node, "net.bridge.bridge-nf-call-iptables", "1")
		nft(t, star.Node, `table inet firewall {
			chain forward { type filter hook forward priority 0; ct state invalid counter drop; }
		}`)
		return p
	},
	"pods":          func(t *testing.T) place { p, _ := podsPlace(t, false); return p },
	"tagged pods":   func(t *testing.T) place { return taggedPlace(t, false, unix.ETH_P_8021Q) },
	"QinQ pods":     func(t *testing.T) place { return taggedPlace(t, false, unix.ETH_P_8021Q, unix.ETH_P_8021AD) },
	"QinQ IPv6":     func(t *testing.T) place { return taggedPlace(t, true, unix.ETH_P_8021Q, unix.ETH_P_8021Q) },
	"MTU 9000":      func(t *testing.T) place { return jumboPlace(t, false) },
	"MTU 9000 IPv6": func(t *testing.T) place { return jumboPlace(t, true) },
	"no offloads": func(t *testing.T) place {
		return offloadPlace(t, false, false, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SGRO)
	},
	"GRO":            func(t *testing.T) place { return offloadPlace(t, true, true, unix.ETHTOOL_SGRO) },
	"BIG TCP":        bigPlace,
	"other routes":   changingPlace,
	"marks":          func(t *testing.T) place { return markedPlace(t, false) },
	"marks IPv6":     func(t *testing.T) place { return markedPlace(t, true) },
	"MACVLAN":        macvlanPlace,
	"VXLAN by route": func(t *testing.T) place { return farPlace(t, metadataVXLAN, false) },
	"everywhere":     func(t *testing.T) place { return everywherePlace(t, netlab.Options{Backends: 2}) },
	"every port":     func(t *testing.T) place { return everywherePlace(t, netlab.Options{Backends: 2, Bridge: true}) },
}

// ways returns places by their names.
func ways(names ...string) map[string]func(t *testing.T) place {
	some := map[string]func(t *testing.T) place{}
	for _, name := range names {
		some[name] = places[name]
	}
	return some
}

// TestEveryPlaceIsUsed: what must hold on every way is tested on some of each family; each way has its turn.
func TestEveryPlaceIsUsed(t *testing.T) {
	t.Parallel()
	for name := range places {
		if !slices.Contains(lifeCyclePlaces, name) && !slices.Contains(countedPlaces, name) {
			t.Errorf("no circuit lives, and nothing is counted, at %q", name)
		}
	}
	for _, name := range slices.Concat(lifeCyclePlaces, countedPlaces) {
		if places[name] == nil {
			t.Errorf("there is no place %q", name)
		}
	}
}

// firewall lets the node forward new connections from the client, and what belongs to known connections.
func firewall(t *testing.T, node *netlab.Namespace) {
	t.Helper()
	nft(t, node, `table inet firewall {
		chain forward {
			type filter hook forward priority 0; policy drop;
			ct state invalid counter drop
			ct state established,related accept
			iifname "cl0" ct state new accept
		}
		chain input {
			type filter hook input priority 0;
			ct state invalid counter drop
		}
	}`)
}

// settingPlace is a plain one whose client has a setting of its kernel's changed.
func settingPlace(t *testing.T, key, value string) place {
	t.Helper()
	p := starPlace(t, netlab.Options{Backends: 2}, false)
	set(t, p.client, key, value)
	return p
}

func set(t *testing.T, in *netlab.Namespace, key, value string) {
	t.Helper()
	if err := in.Sysctl(key, value); err != nil {
		t.Fatal(err)
	}
}

func nft(t *testing.T, in *netlab.Namespace, rules string) {
	t.Helper()
	if err := in.NFT(rules); err != nil {
		t.Fatal(err)
	}
}

// starPlace is from the client through the node to b1, with b2 as the neighbour.
func starPlace(t *testing.T, o netlab.Options, v6 bool) place {
	return backendsPlace(t, newStar(t, o), v6)
}

// backendsPlace is from the client to the first backend of a star, with the second as the neighbour.
func backendsPlace(t *testing.T, star *netlab.Star, v6 bool) place {
	at := func(b netlab.Backend) netip.AddrPort {
		if v6 {
			return netip.AddrPortFrom(b.IPv6, port)
		}
		return netip.AddrPortFrom(b.IPv4, port)
	}
	p := place{
		client: star.Client, node: star.Node, interfaces: []string{"be*"},
		backend: at(star.Backends[0]), neighbour: at(star.Backends[1]),
	}
	p.dial, p.home = p.backend, star.Backends[0].Namespace
	p.server = serve(t, p.home, p.backend)
	p.other = serve(t, star.Backends[1].Namespace, p.neighbour)
	return p
}

// loPlace is from a process of the node to another one of the same node.
func loPlace(t *testing.T, backend, neighbour string) place {
	star := newStar(t, netlab.Options{})
	p := place{
		client: star.Node, node: star.Node, interfaces: []string{"lo"},
		backend:   netip.AddrPortFrom(netip.MustParseAddr(backend), port),
		neighbour: netip.AddrPortFrom(netip.MustParseAddr(neighbour), port+1),
	}
	p.dial, p.home = p.backend, star.Node
	p.server, p.other = serve(t, star.Node, p.backend), serve(t, star.Node, p.neighbour)
	return p
}
