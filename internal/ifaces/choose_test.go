package ifaces

import (
	"strings"
	"testing"
)

func TestSelectAuto(t *testing.T) {
	bridge := Link{Index: 90, Name: "br0", Kind: "bridge", Encap: "ether", Up: true}
	uplinkBridge := Link{Index: 91, Name: "br1", Kind: "bridge", Encap: "ether", Up: true, DefaultRoute: true}
	bond := Link{Index: 92, Name: "bond0", Kind: "bond", Encap: "ether", Up: true, DefaultRoute: true}
	vrf := Link{Index: 93, Name: "blue", Kind: "vrf", Encap: "ether", Up: true}
	ovs := Link{Index: 94, Name: "ovs-system", Kind: "openvswitch", Encap: "ether"}
	masters := []Link{bridge, uplinkBridge, bond, vrf, ovs}
	for _, row := range []struct {
		name           string
		link           Link
		attach, uplink bool
		reason         string
	}{
		{"loopback", Link{Name: "lo", Kind: "device", Encap: "loopback", Up: true}, true, false, "loopback"},
		{"loopback with a default route", Link{Name: "lo", Kind: "device", Encap: "loopback", Up: true, DefaultRoute: true}, true, false, "loopback"},
		{"uplink", Link{Name: "eth0", Kind: "device", Encap: "ether", Up: true, DefaultRoute: true}, true, true, "default route"},
		{"card without default route", Link{Name: "eth1", Kind: "device", Encap: "ether", Up: true}, true, false, "network card that is up"},
		{"card that is down", Link{Name: "eth1", Kind: "device", Encap: "ether"}, false, false, "down"},
		{"uplink that is a veth (a node in a container)", Link{Name: "eth0", Kind: "veth", Encap: "ether", Up: true, Away: true, DefaultRoute: true}, true, true, "default route"},
		{"pod", Link{Name: "cali1", Kind: "veth", Encap: "ether", Away: true}, true, false, "host side"},
		{"pod, netkit", Link{Name: "lxc1", Kind: "netkit", Encap: "ether", Away: true}, true, false, "host side"},
		{"pod, bridged", Link{Name: "veth1", Kind: "veth", Encap: "ether", Away: true, Master: 90}, true, false, "host side"},
		{"pod in a VRF", Link{Name: "veth1", Kind: "veth", Encap: "ether", Away: true, Master: 93}, true, false, "host side"},
		{"veth with both ends here", Link{Name: "cilium_net", Kind: "veth", Encap: "ether", Up: true, Parent: 5}, false, false, "both ends"},
		{"veth with both ends here, bridged", Link{Name: "veth2", Kind: "veth", Encap: "ether", Up: true, Parent: 5, Master: 90}, true, false, "port of bridge br0"},
		{"bridge", bridge, false, false, "its ports"},
		{"bridge with the default route", uplinkBridge, false, true, "its ports"},
		{"card under the bridge with the default route", Link{Name: "eth0", Kind: "device", Encap: "ether", Up: true, Master: 91}, true, true, "port of bridge br1"},
		{"pod under the bridge with the default route", Link{Name: "veth3", Kind: "veth", Encap: "ether", Up: true, Away: true, Master: 91}, true, false, "host side"},
		{"bond", bond, true, true, "default route"},
		{"member of a bond", Link{Name: "eth0", Kind: "device", Encap: "ether", Up: true, Master: 92}, false, false, "member of bond bond0"},
		{"VRF", vrf, false, false, "members"},
		{"member of a VRF", Link{Name: "eth3", Kind: "device", Encap: "ether", Up: true, Master: 93}, true, false, "network card"},
		{"VLAN", Link{Name: "eth0.7", Kind: "vlan", Encap: "ether", Up: true}, true, false, "VLAN"},
		{"VLAN with the default route", Link{Name: "eth0.7", Kind: "vlan", Encap: "ether", Up: true, DefaultRoute: true}, true, true, "default route"},
		{"vxlan", Link{Name: "flannel.1", Kind: "vxlan", Encap: "ether", Up: true}, true, true, "tunnel (vxlan)"},
		{"geneve", Link{Name: "gnv0", Kind: "geneve", Encap: "ether", Up: true}, true, true, "tunnel (geneve)"},
		{"wireguard", Link{Name: "wg0", Kind: "wireguard", Encap: "none", Up: true}, true, true, "tunnel (wireguard)"},
		{"ipip in use", Link{Name: "tunl0", Kind: "ipip", Encap: "ipip", Up: true}, true, true, "tunnel (ipip)"},
		{"ipip that the kernel made", Link{Name: "tunl0", Kind: "ipip", Encap: "ipip"}, false, true, "down"},
		{"tun", Link{Name: "tun0", Kind: "tun", Encap: "none", Up: true}, true, true, "tunnel (tun)"},
		{"TAP", Link{Name: "tap0", Kind: "tun", Encap: "ether", Up: true, TAP: true}, true, false, "TAP"},
		{"TAP, bridged", Link{Name: "vnet0", Kind: "tun", Encap: "ether", Up: true, TAP: true, Master: 90}, true, false, "port of bridge br0"},
		{"Open vSwitch, internal", Link{Name: "br-int", Kind: "openvswitch", Encap: "ether", Up: true}, false, false, "Open vSwitch"},
		{"Open vSwitch, with the default route", Link{Name: "br-ex", Kind: "openvswitch", Encap: "ether", Up: true, DefaultRoute: true}, true, true, "default route"},
		{"port of Open vSwitch", Link{Name: "dpdk0", Kind: "ifb", Encap: "ether", Up: true, Master: 94}, true, false, "port of Open vSwitch"},
		{"dummy", Link{Name: "kube-ipvs0", Kind: "dummy", Encap: "ether", Up: true}, false, false, "dummy"},
		{"ifb", Link{Name: "ifb0", Kind: "ifb", Encap: "ether"}, false, false, "ifb"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.link.Index == 0 {
				row.link.Index = 1
			}
			links := append([]Link{row.link}, masters...)
			p := Select(links, Spec{Attach: []string{Auto}})[0]
			if p.Attach != row.attach || p.Uplink != row.uplink || !strings.Contains(p.Reason, row.reason) {
				t.Errorf("attach %v, uplink %v, %q; want %v, %v, ...%s...", p.Attach, p.Uplink, p.Reason, row.attach, row.uplink, row.reason)
			}
			if p.Link != row.link {
				t.Errorf("the pick is of %+v", p.Link)
			}
		})
	}
}

func TestSelectNamed(t *testing.T) {
	links := []Link{
		{Index: 1, Name: "lo", Kind: "device", Encap: "loopback", Up: true},
		{Index: 2, Name: "eth0", Kind: "device", Encap: "ether", Up: true, DefaultRoute: true},
		{Index: 3, Name: "vethabc", Kind: "veth", Encap: "ether", Away: true},
		{Index: 4, Name: "wg0", Kind: "wireguard", Encap: "none", Up: true},
		{Index: 5, Name: "br0", Kind: "bridge", Encap: "ether", Up: true},
	}
	for _, row := range []struct {
		name   string
		spec   Spec
		attach string
		uplink string
	}{
		{"a name", Spec{Attach: []string{"eth0"}}, "eth0", "eth0 wg0"},
		{"a glob", Spec{Attach: []string{"veth*", "w[a-h]?"}}, "vethabc wg0", "eth0 wg0"},
		{"a bridge by name", Spec{Attach: []string{"br0"}}, "br0", "eth0 wg0"},
		{"auto and a name", Spec{Attach: []string{Auto, "br0"}}, "lo eth0 vethabc wg0 br0", "eth0 wg0"},
		{"uplinks by name", Spec{Attach: []string{"eth0"}, Uplinks: []string{"br*", "eth1"}}, "eth0", "br0"},
		{"no match", Spec{Attach: []string{"eth"}}, "", "eth0 wg0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var attach, uplink []string
			for _, p := range Select(links, row.spec) {
				if p.Attach {
					attach = append(attach, p.Link.Name)
				}
				if p.Uplink {
					uplink = append(uplink, p.Link.Name)
				}
				if p.Reason == "" {
					t.Errorf("no reason for %s", p.Link.Name)
				}
			}
			if got := strings.Join(attach, " "); got != row.attach {
				t.Errorf("attached %q, want %q", got, row.attach)
			}
			if got := strings.Join(uplink, " "); got != row.uplink {
				t.Errorf("uplinks %q, want %q", got, row.uplink)
			}
		})
	}
	if got := strings.Join(Unmatched(links, Spec{Attach: []string{Auto, "eth*", "ens3", "cali*"}, Uplinks: []string{"eth0", "bond?"}}), " "); got != "ens3 cali* bond?" {
		t.Errorf("unmatched %q", got)
	}
}

func TestSpecValidate(t *testing.T) {
	for _, good := range []Spec{
		{Attach: []string{Auto}}, {Attach: []string{"eth0", "veth*", Auto}, Uplinks: []string{"bond[0-9]"}},
		{Attach: []string{"averyveryverylongglob*"}},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	bad := Spec{Attach: []string{"", "eth[", "a/b", "sixteencharacter"}, Uplinks: []string{Auto, "b c"}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d errors, want all 6 at once:\n%v", len(lines), err)
	}
	for i, want := range []string{`interface ""`, `interface "eth["`, `interface "a/b"`, `interface "sixteencharacter": an interface name has at most 15`, "uplink auto", `uplink "b c"`} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("error %d is %q, want ...%s...", i, lines[i], want)
		}
	}
	if err := (Spec{}).Validate(); err == nil || !strings.Contains(err.Error(), "auto") {
		t.Errorf("an empty spec gives %v", err)
	}
}
