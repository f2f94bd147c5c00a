package e2e

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// joint connects two nodes by some kind of link, and returns the name of its interfaces, the same on both.
type joint func(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) string

// Addresses of the two nodes on the link between them, and on the one that carries it, if any.
var (
	nearLink  = []netip.Prefix{netip.MustParsePrefix("10.24.0.1/24"), netip.MustParsePrefix("2001:db8:24::1/64")}
	farLink   = []netip.Prefix{netip.MustParsePrefix("10.24.0.2/24"), netip.MustParsePrefix("2001:db8:24::2/64")}
	nearUnder = []netip.Prefix{netip.MustParsePrefix("10.23.0.1/24")}
	farUnder  = []netip.Prefix{netip.MustParsePrefix("10.23.0.2/24")}
)

// farStar is a client behind one node, and backends behind another.
type farStar struct {
	*netlab.Star
	Far    *netlab.Namespace
	Device string // between the nodes
}

// newFarStar makes one with two backends, which are of the far node.
func newFarStar(t *testing.T, connect joint) farStar {
	t.Helper()
	s := farStar{Star: newStar(t, netlab.Options{})}
	var err error
	if s.Far, err = s.Namespace("far"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		set(t, s.Far, key, "1")
	}
	s.Device = connect(t, &s.Lab, s.Node, s.Far)
	for i, b := range []netlab.Backend{
		{Interface: "be1", IPv4: netip.MustParseAddr("10.21.1.2"), IPv6: netip.MustParseAddr("2001:db8:21:1::2")},
		{Interface: "be2", IPv4: netip.MustParseAddr("10.21.2.2"), IPv6: netip.MustParseAddr("2001:db8:21:2::2")},
	} {
		if b.Namespace, err = s.Namespace([]string{"b1", "b2"}[i]); err != nil {
			t.Fatal(err)
		}
		here := netlab.End{In: s.Far, Interface: b.Interface, Addresses: []netip.Prefix{
			netip.PrefixFrom(b.IPv4.Prev(), 24), netip.PrefixFrom(b.IPv6.Prev(), 64),
		}}
		there := netlab.End{In: b.Namespace, Interface: "eth0", Addresses: []netip.Prefix{
			netip.PrefixFrom(b.IPv4, 24), netip.PrefixFrom(b.IPv6, 64),
		}}
		if err := s.Veth(here, there); err != nil {
			t.Fatal(err)
		}
		for _, gateway := range here.Addresses {
			route(t, b.Namespace, netip.PrefixFrom(zero(gateway.Addr()), 0), gateway.Addr())
		}
		s.Backends = append(s.Backends, b)
	}
	for i, to := range []string{"10.21.0.0/16", "2001:db8:21::/48"} {
		route(t, s.Node, netip.MustParsePrefix(to), farLink[i].Addr())
	}
	for i, to := range []string{"10.20.0.0/24", "2001:db8:20::/64"} {
		route(t, s.Far, netip.MustParsePrefix(to), nearLink[i].Addr())
	}
	return s
}

func zero(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func route(t *testing.T, in *netlab.Namespace, to netip.Prefix, via netip.Addr) {
	t.Helper()
	if err := in.Route(to, via); err != nil {
		t.Fatal(err)
	}
}

// farPlace is from a client of one node to a backend of another; the agent is on the client's node, on the link alone.
func farPlace(t *testing.T, connect joint, v6 bool) place {
	s := newFarStar(t, connect)
	p := backendsPlace(t, s.Star, v6)
	p.interfaces = []string{s.Device}
	return p
}

// under connects the nodes by a plain link, for another one to be built upon.
func under(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) {
	t.Helper()
	err := lab.Veth(netlab.End{In: near, Interface: "und0", Addresses: nearUnder}, netlab.End{In: far, Interface: "und0", Addresses: farUnder})
	if err != nil {
		t.Fatal(err)
	}
}

// built connects the nodes by a device that make makes on top of a plain link.
func built(option string, device func(in *netlab.Namespace, attrs netlink.LinkAttrs, local, remote net.IP) (netlink.Link, error)) joint {
	return func(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) string {
		under(t, lab, near, far)
		local, remote := nearUnder[0].Addr(), farUnder[0].Addr()
		for _, end := range []netlab.End{{In: near, Addresses: nearLink}, {In: far, Addresses: farLink}} {
			d, err := device(end.In, netlink.LinkAttrs{Name: "link0"}, local.AsSlice(), remote.AsSlice())
			if err == nil {
				err = lab.Device(end.In, d, end.Addresses...)
			}
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skipf("this kernel is built without %s: %v", option, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			local, remote = remote, local
		}
		return "link0"
	}
}

var (
	vxlan = built("CONFIG_VXLAN", func(_ *netlab.Namespace, a netlink.LinkAttrs, local, remote net.IP) (netlink.Link, error) {
		return &netlink.Vxlan{LinkAttrs: a, VxlanId: 7, SrcAddr: local, Group: remote, Port: 4789, Learning: true}, nil
	})
	geneve = built("CONFIG_GENEVE", func(_ *netlab.Namespace, a netlink.LinkAttrs, _, remote net.IP) (netlink.Link, error) {
		return &netlink.Geneve{LinkAttrs: a, ID: 7, Remote: remote}, nil
	})
	ipip = built("CONFIG_NET_IPIP", func(_ *netlab.Namespace, a netlink.LinkAttrs, local, remote net.IP) (netlink.Link, error) {
		return &netlink.Iptun{LinkAttrs: a, Local: local, Remote: remote, PMtuDisc: 1}, nil
	})
	gre = built("CONFIG_NET_IPGRE", func(_ *netlab.Namespace, a netlink.LinkAttrs, local, remote net.IP) (netlink.Link, error) {
		return &netlink.Gretun{LinkAttrs: a, Local: local, Remote: remote, PMtuDisc: 1}, nil
	})
	vlan = built("CONFIG_VLAN_8021Q", func(in *netlab.Namespace, a netlink.LinkAttrs, _, _ net.IP) (netlink.Link, error) {
		below, err := in.Links().LinkByName("und0")
		if err != nil {
			return nil, err
		}
		a.ParentIndex = below.Attrs().Index
		return &netlink.Vlan{LinkAttrs: a, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}, nil
	})
)

// tun connects the nodes by devices without a MAC header.
func tun(offload bool) joint {
	return func(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) string {
		err := lab.Tun(netlab.End{In: near, Interface: "tun0", Addresses: nearLink}, netlab.End{In: far, Interface: "tun0", Addresses: farLink}, offload)
		if err != nil {
			t.Fatal(err)
		}
		return "tun0"
	}
}

// metadataVXLAN connects the nodes by VXLAN devices that learn from a packet's route where to send it, as overlay
// networks use them.
func metadataVXLAN(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) string {
	under(t, lab, near, far)
	for _, end := range []struct {
		in        *netlab.Namespace
		addresses []netip.Prefix
		mac, peer byte
		to        string
		via       netip.Prefix
		remote    netip.Prefix
	}{
		{near, nearLink, 1, 2, "10.21.0.0/16", farLink[0], farUnder[0]},
		{far, farLink, 2, 1, "10.20.0.0/24", nearLink[0], nearUnder[0]},
	} {
		device := &netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: "link0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, end.mac}},
			FlowBased: true, Port: 4789,
		}
		if err := lab.Device(end.in, device, end.addresses...); err != nil {
			t.Fatal(err)
		}
		err := end.in.Links().NeighSet(&netlink.Neigh{
			LinkIndex: device.Attrs().Index, State: netlink.NUD_PERMANENT, IP: end.via.Addr().AsSlice(),
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, end.peer},
		})
		if err != nil {
			t.Fatal(err)
		}
		// More specific than the routes of newFarStar.
		for _, half := range halves(netip.MustParsePrefix(end.to)) {
			run(t, end.in, "ip", "route", "add", half, "encap", "ip", "id", "7", "dst", end.remote.Addr().String(), "via", end.via.Addr().String(), "dev", "link0")
		}
	}
	return "link0"
}

// halves returns the two networks that make up another.
func halves(p netip.Prefix) []string {
	upper := p.Addr().As4()
	upper[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	return []string{
		netip.PrefixFrom(p.Addr(), p.Bits()+1).String(), netip.PrefixFrom(netip.AddrFrom4(upper), p.Bits()+1).String(),
	}
}

// run runs a command in a namespace.
func run(t *testing.T, in *netlab.Namespace, command ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := in.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, &said)
	}
}

// macvlanPlace is from a pod whose interface is a MACVLAN of the node's: the node sees what goes out, at the latter.
func macvlanPlace(t *testing.T) place {
	star := newStar(t, netlab.Options{Backends: 2})
	// The far side is the client of the star.
	pod, err := star.Namespace("pod")
	if err != nil {
		t.Fatal(err)
	}
	outside := star.Client
	parent, err := star.Node.Links().LinkByName("cl0")
	if err != nil {
		t.Fatal(err)
	}
	child := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: parent.Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := star.Node.Links().LinkAdd(child); err != nil {
		t.Fatal(err)
	}
	if err := pod.Take(star.Node, "mv0", netip.MustParsePrefix("10.20.0.9/24")); err != nil {
		t.Fatal(err)
	}
	p := place{
		client: pod, node: star.Node, home: outside, interfaces: []string{"cl0"},
		backend: netip.AddrPortFrom(netlab.ClientIPv4, port), neighbour: netip.AddrPortFrom(netlab.ClientIPv4, port+1),
	}
	p.dial = p.backend
	p.server, p.other = serve(t, outside, p.backend), serve(t, outside, p.neighbour)
	return p
}

// podsPlace is between pods of one bridge, which itself never sees what they say to each other.
func podsPlace(t *testing.T, v6 bool) (place, *netlab.Star) {
	star := newStar(t, netlab.Options{Backends: 3, Bridge: true})
	p := backendsPlace(t, star, v6)
	p.client = star.Backends[2].Namespace
	return p, star
}

// taggedPlace is between pods of one bridge whose frames carry VLAN tags, the inner one first.
func taggedPlace(t *testing.T, v6 bool, protocols ...uint16) place {
	p, star := podsPlace(t, v6)
	var push, pop asm.Instructions
	for i, protocol := range protocols {
		push = append(push,
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(protocol>>8|protocol&0xff<<8)), asm.Mov.Imm(asm.R3, int32(i+1)), asm.FnSkbVlanPush.Call())
		pop = append(pop, asm.Mov.Reg(asm.R1, asm.R6), asm.FnSkbVlanPop.Call())
	}
	for _, pod := range star.Backends {
		attachTC(t, pod.Namespace, "eth0", ebpf.AttachTCXEgress, classifier(t, push))
		attachTC(t, pod.Namespace, "eth0", ebpf.AttachTCXIngress, classifier(t, pop))
	}
	return p
}

// classifier loads a program that does what the instructions say, which find the packet in R6, and lets the next one
// decide; they may jump there, to "next".
func classifier(t *testing.T, body asm.Instructions) *ebpf.Program {
	t.Helper()
	all := append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, body...)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual MIT/GPL", Instructions: append(all, asm.Mov.Imm(asm.R0, -1).WithSymbol("next"), asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// attachTC attaches a program behind those that an interface has, for as long as the test lasts or until it is detached.
func attachTC(t *testing.T, in *netlab.Namespace, iface string, where ebpf.AttachType, prog *ebpf.Program) (detach func()) {
	t.Helper()
	err := in.Do(func() error {
		ifc, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifc.Index, Program: prog, Attach: where, Anchor: link.Tail()})
		if err == nil {
			detach = func() { _ = l.Close() }
			t.Cleanup(detach)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return detach
}

// everywherePlace has the agent on every interface, so that it meets each packet more than once.
func everywherePlace(t *testing.T, o netlab.Options) place {
	p := starPlace(t, o, false)
	p.interfaces = []string{"*"}
	return p
}

// jumboPlace has links for packets of 9000 bytes.
func jumboPlace(t *testing.T, v6 bool) place {
	star := newStar(t, netlab.Options{Backends: 2})
	for _, n := range []*netlab.Namespace{star.Client, star.Node, star.Backends[0].Namespace, star.Backends[1].Namespace} {
		for _, iface := range ethernets(t, n) {
			if err := n.MTU(iface, 9000); err != nil {
				t.Fatal(err)
			}
		}
	}
	return backendsPlace(t, star, v6)
}

// offloadPlace switches offloads of all links, on both ends.
func offloadPlace(t *testing.T, v6, on bool, commands ...uint32) place {
	star := newStar(t, netlab.Options{Backends: 2})
	for _, n := range []*netlab.Namespace{star.Client, star.Node, star.Backends[0].Namespace, star.Backends[1].Namespace} {
		for _, iface := range ethernets(t, n) {
			for _, c := range commands {
				if err := n.Offload(iface, c, on); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return backendsPlace(t, star, v6)
}

// ethernets returns the names of a namespace's interfaces, lo excepted.
func ethernets(t *testing.T, n *netlab.Namespace) []string {
	t.Helper()
	all, err := n.Links().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}
