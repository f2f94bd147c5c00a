package ifaces

// Link holds the properties of a network interface that the decision depends on. It is comparable.
type Link struct {
	Index  int
	Name   string
	Kind   string // the kernel's: veth, bridge, vlan, vxlan ...; "device" where it names none (network cards, lo)
	Encap  string // the name of its ARPHRD type: ether, loopback, none, ipip ...
	MAC    string // hardware address in text; empty where there is none
	Up     bool   // administratively
	Master int    // index of the bridge, bond or VRF that it is enslaved to; 0 = none
	Parent int    // index of the link that it is stacked upon (VLAN, macvlan), or of its veth peer; 0 = none
	Away   bool   // Parent is in another network namespace: for a veth, its peer is

	DefaultRoute bool // a default route of IPv4 or IPv6, in any table, leaves through it
	TAP          bool // kind tun: carries frames, not packets

	Born uint64 // distinguishes two links that had the same index one after the other
}

// HasMAC reports whether its packets start with a MAC header. Those of tun, wireguard, ipip, sit, gre and ppp devices
// start with the IP header.
func (l Link) HasMAC() bool { return l.Encap == "ether" || l.Encap == "loopback" }

// Loopback reports whether it is a loopback device.
func (l Link) Loopback() bool { return l.Encap == "loopback" }

// Bridge reports whether it is a bridge itself (not a port of one).
func (l Link) Bridge() bool { return l.Kind == "bridge" }

// VLAN reports whether it is a VLAN of another link.
func (l Link) VLAN() bool { return l.Kind == "vlan" }

// tunnelKinds carry packets of other nodes in packets of this one.
var tunnelKinds = map[string]bool{
	"vxlan": true, "geneve": true, "wireguard": true, "tun": true,
	"ipip": true, "sit": true, "ip6tnl": true, "vti": true, "vti6": true, "xfrm": true,
	"gre": true, "gretap": true, "erspan": true, "ip6gre": true, "ip6gretap": true, "ip6erspan": true,
	"bareudp": true, "gtp": true, "ovpn": true,
}

// Tunnel reports whether it is a tunnel to other nodes. A TAP is not: mostly it leads to a virtual machine.
func (l Link) Tunnel() bool { return tunnelKinds[l.Kind] && !l.TAP }
