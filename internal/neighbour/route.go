package neighbour

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeTo asks the kernel for the route of this host's packets to an address. Rules that match a packet's source, mark or
// incoming interface do not apply.
func routeTo(h *netlink.Handle, to netip.Addr) Route {
	routes, err := h.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 {
		return nil // there is no route
	}
	return hops(&routes[0], to)
}

// hops returns the neighbours that a route leads through.
func hops(r *netlink.Route, to netip.Addr) Route {
	if r.Type != unix.RTN_UNICAST {
		return nil // an address of the node itself, or one to which no packet is sent
	}
	if len(r.MultiPath) == 0 {
		return Route{hop(r.LinkIndex, r.Gw, r.Via, to)}
	}
	var all Route
	for _, p := range r.MultiPath {
		all = append(all, hop(p.LinkIndex, p.Gw, p.Via, to))
	}
	return all
}

// hop is the gateway, which may be of the other family, or the address itself.
func hop(link int, gateway net.IP, via netlink.Destination, to netip.Addr) Key {
	if v, ok := via.(*netlink.Via); ok {
		gateway = v.Addr
	}
	if addr, ok := netip.AddrFromSlice(gateway); ok {
		to = addr.Unmap()
	}
	return Key{Link: link, Addr: to}
}
