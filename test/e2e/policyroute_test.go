package e2e

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// markedPlace is through a node that marks what it forwards and what its own processes send, and that has a routing rule
// for marked packets which leads nowhere: the marks are for the way out alone.
func markedPlace(t *testing.T, v6 bool) place {
	p := starPlace(t, netlab.Options{Backends: 2}, v6)
	nft(t, p.node, `table inet marks {
		chain forward { type filter hook forward priority 0; oifname "be*" meta mark set 0x77; }
	}`)
	const table = 77
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table, rule.Priority = family, 0x77, table, 10
	if err := p.node.Links().RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	everything := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if v6 {
		everything = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if err := p.node.Links().RouteAdd(&netlink.Route{Table: table, Type: unix.RTN_BLACKHOLE, Family: family, Dst: everything}); err != nil {
		t.Fatal(err)
	}
	return p
}
