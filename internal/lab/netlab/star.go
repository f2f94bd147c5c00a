package netlab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Star is the network that most tests use, IPv4 and IPv6 alike:
//
//	client eth0 ---- cl0 node be1 ---- eth0 b1
//	                     node be2 ---- eth0 b2 ...
//	remote eth0 ---- up0 node              (only with Options.Remote)
//
// The node forwards between all of them, as a Kubernetes node does between its pods. The client and the backends have
// their default route through the node. With Options.Bridge the interfaces be1, be2 ... are ports of a bridge br0.
type Star struct {
	Lab
	Client      *Namespace
	ClientRelay *Relay // forward from the client to the node; nil without Options.ClientRelay
	Node        *Namespace
	Remote      *Namespace // nil without Options.Remote
	Backends    []Backend
}

// Backend is a namespace that stands for one pod.
type Backend struct {
	*Namespace
	Interface string // the node's end of its veth pair: be1, be2 ...
	IPv4      netip.Addr
	IPv6      netip.Addr
	Relay     *Relay // forward from the node to the backend; nil without Options.BackendRelays
}

// Options set the parts of a Star.
type Options struct {
	Backends int  // 0..250
	Bridge   bool // the backends share a bridge
	Remote   bool // another client, on the far side of the node's default route (an uplink)

	ClientRelay   bool   // between the client and the node
	BackendRelays bool   // between the node and each of the backends
	Seed          uint64 // of the relays' random impairment
}

// Addresses of a Star. Backend i, counted from 1, is 10.21.i.2 and 2001:db8:21:i::2; its gateway ends in 1 (with
// Options.Bridge 10.21.0.1 and 2001:db8:21::1 for all).
var (
	ClientIPv4 = netip.MustParseAddr("10.20.0.2")
	ClientIPv6 = netip.MustParseAddr("2001:db8:20::2")
	NodeIPv4   = netip.MustParseAddr("10.20.0.1")
	NodeIPv6   = netip.MustParseAddr("2001:db8:20::1")
	RemoteIPv4 = netip.MustParseAddr("10.22.0.2")
	RemoteIPv6 = netip.MustParseAddr("2001:db8:22::2")
)

// nodeSettings make the node a router. Reverse path filtering is strict, the setting that forgives least.
var nodeSettings = [][2]string{
	{"net.ipv4.ip_forward", "1"},
	{"net.ipv6.conf.all.forwarding", "1"},
	{"net.ipv4.conf.all.rp_filter", "1"},
	{"net.ipv4.conf.default.rp_filter", "1"},
}

// clientSettings let a client open tens of thousands of connections a minute to one address.
var clientSettings = [][2]string{
	{"net.ipv4.ip_local_port_range", "1024 65535"},
	{"net.ipv4.tcp_tw_reuse", "1"},
}

// NewStar makes the network and returns when packets can pass. The client closes it.
func NewStar(o Options) (*Star, error) {
	s := &Star{}
	if err := s.build(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Star) build(o Options) error {
	if o.Backends < 0 || o.Backends > 250 {
		return fmt.Errorf("a star has 0 to 250 backends, got %d", o.Backends)
	}
	var err error
	if s.Node, err = s.Namespace("node"); err != nil {
		return err
	}
	if err := s.Node.sysctls(nodeSettings); err != nil {
		return err
	}
	connect := s.Veth
	if o.ClientRelay {
		connect = func(near, far End) (err error) {
			s.ClientRelay, err = s.Relay(far, near, o.Seed)
			return err
		}
	}
	if s.Client, err = s.client("client", "cl0", 20, connect); err != nil {
		return err
	}
	if o.Remote {
		if s.Remote, err = s.client("remote", "up0", 22, s.Veth); err != nil {
			return err
		}
		for _, dst := range defaultRoutes {
			if err := s.Node.Route(dst, pick(dst, RemoteIPv4, RemoteIPv6)); err != nil {
				return err
			}
		}
	}
	for i := 1; i <= o.Backends; i++ {
		if err := s.addBackend(i, o); err != nil {
			return err
		}
	}
	if o.Bridge {
		return s.bridge()
	}
	return nil
}

// client adds a namespace behind the node, with subnet 10.net.0.0/24 and 2001:db8:net::/64.
func (s *Star) client(name, iface string, net int, connect connect) (*Namespace, error) {
	n, err := s.Namespace(name)
	if err != nil {
		return nil, err
	}
	if err := n.sysctls(clientSettings); err != nil {
		return nil, err
	}
	v4, v6 := fmt.Sprintf("10.%d.0.", net), fmt.Sprintf("2001:db8:%d::", net)
	return n, s.attach(n, iface, [2]string{v4 + "2/24", v6 + "2/64"}, [2]string{v4 + "1/24", v6 + "1/64"}, true, connect)
}

// addBackend adds backend i.
func (s *Star) addBackend(i int, o Options) error {
	n, err := s.Namespace(fmt.Sprintf("b%d", i))
	if err != nil {
		return err
	}
	v4, v6 := fmt.Sprintf("10.21.%d.", i), fmt.Sprintf("2001:db8:21:%x::", i)
	b := Backend{
		Namespace: n,
		Interface: fmt.Sprintf("be%d", i),
		IPv4:      netip.MustParseAddr(v4 + "2"),
		IPv6:      netip.MustParseAddr(v6 + "2"),
	}
	there, here, own := [2]string{v4 + "2/24", v6 + "2/64"}, [2]string{v4 + "1/24", v6 + "1/64"}, true
	if o.Bridge {
		there, here, own = [2]string{v4 + "2/16", v6 + "2/48"}, [2]string{bridgeIPv4, bridgeIPv6}, false
	}
	connect := s.Veth
	if o.BackendRelays {
		connect = func(near, far End) (err error) {
			b.Relay, err = s.Relay(near, far, o.Seed+uint64(i))
			return err
		}
	}
	err = s.attach(n, b.Interface, there, here, own, connect)
	s.Backends = append(s.Backends, b)
	return err
}

// connect creates a link between two ends.
type connect = func(near, far End) error

// attach connects n to the node; n's default routes go to the node's addresses, which are added to the node's interface if
// own is true.
func (s *Star) attach(n *Namespace, iface string, there, here [2]string, own bool, connect connect) error {
	far := End{In: n, Interface: "eth0", Addresses: prefixes(there)}
	near := End{In: s.Node, Interface: iface}
	if own {
		near.Addresses = prefixes(here)
	}
	if err := connect(near, far); err != nil {
		return err
	}
	for i, dst := range defaultRoutes {
		if err := n.Route(dst, prefixes(here)[i].Addr()); err != nil {
			return err
		}
	}
	return nil
}

// Addresses of the bridge.
const (
	bridgeIPv4 = "10.21.0.1/16"
	bridgeIPv6 = "2001:db8:21::1/48"
)

// bridge joins the node's ends of all backends.
func (s *Star) bridge() error {
	var ports []string
	for _, b := range s.Backends {
		ports = append(ports, b.Interface)
	}
	return s.Bridge(s.Node, "br0", ports, prefixes([2]string{bridgeIPv4, bridgeIPv6}))
}

var defaultRoutes = prefixes([2]string{"0.0.0.0/0", "::/0"})

func prefixes(both [2]string) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(both[0]), netip.MustParsePrefix(both[1])}
}

func pick(family netip.Prefix, v4, v6 netip.Addr) netip.Addr {
	if family.Addr().Is4() {
		return v4
	}
	return v6
}

func (n *Namespace) sysctls(settings [][2]string) error {
	for _, kv := range settings {
		if err := n.Sysctl(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}
