package netlab

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// link is a pair of addresses of each family for two namespaces that are connected in some way.
func link() (a, b []netip.Prefix) {
	return prefixes([2]string{"10.24.0.1/24", "2001:db8:24::1/64"}), prefixes([2]string{"10.24.0.2/24", "2001:db8:24::2/64"})
}

// pair makes two namespaces.
func pair(t *testing.T) (lab *Lab, a, b *Namespace) {
	t.Helper()
	lab = &Lab{}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, n := range map[string]**Namespace{"a": &a, "b": &b} {
		var err error
		if *n, err = lab.Namespace(name); err != nil {
			t.Fatal(err)
		}
	}
	return lab, a, b
}

// wantReach fails the test unless a client in from reaches both addresses of the other namespace.
func wantReach(t *testing.T, from, to *Namespace, there []netip.Prefix) {
	t.Helper()
	serve(t, Backend{Namespace: to, IPv4: there[0].Addr(), IPv6: there[1].Addr()})
	for _, at := range there {
		get(t, from, netip.AddrPortFrom(at.Addr(), 8080))
	}
}

func TestTun(t *testing.T) {
	rootonly.Test(t)
	for name, offload := range map[string]bool{"plain": false, "offload": true} {
		t.Run(name, func(t *testing.T) {
			lab, a, b := pair(t)
			here, there := link()
			if err := lab.Tun(End{In: a, Interface: "tun0", Addresses: here}, End{In: b, Interface: "tun0", Addresses: there}, offload); err != nil {
				t.Fatal(err)
			}
			wantReach(t, a, b, there)
			l, err := a.Links().LinkByName("tun0")
			if err != nil {
				t.Fatal(err)
			}
			if mac := l.Attrs().HardwareAddr; len(mac) > 0 {
				t.Errorf("it has a MAC address: %s", mac)
			}
		})
	}
}

func TestDeviceAndMTU(t *testing.T) {
	rootonly.Test(t)
	lab, a, b := pair(t)
	here, there := link()
	outerA, outerB := netip.MustParsePrefix("10.23.0.1/24"), netip.MustParsePrefix("10.23.0.2/24")
	if err := lab.Veth(End{a, "und0", []netip.Prefix{outerA}}, End{b, "und0", []netip.Prefix{outerB}}); err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		in        *Namespace
		remote    netip.Addr
		addresses []netip.Prefix
	}{{a, outerB.Addr(), here}, {b, outerA.Addr(), there}} {
		tunnel := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 1, Group: end.remote.AsSlice(), Port: 4789}
		if err := lab.Device(end.in, tunnel, end.addresses...); err != nil {
			t.Fatal(err)
		}
	}
	wantReach(t, a, b, there)
	if err := a.MTU("und0", 9000); err != nil {
		t.Fatal(err)
	}
	l, err := a.Links().LinkByName("und0")
	if err != nil {
		t.Fatal(err)
	}
	if l.Attrs().MTU != 9000 {
		t.Errorf("the MTU is %d, want 9000", l.Attrs().MTU)
	}
	if err := a.MTU("none", 9000); err == nil {
		t.Error("no error for an interface that is not there")
	}
}
