package ifaces

import (
	"fmt"
	"slices"
)

// Select returns the decision on each link, in the given order. It depends only on its arguments.
//
// A name or glob of spec.Attach always attaches. With "auto":
//
//   - attached are: loopback, for the processes of this host that call each other; interfaces with a default route, and
//     tunnels, which lead to other nodes; the host side of each veth or netkit whose other end is in another network
//     namespace, which is how pods and containers are reached; the ports of bridges; TAP devices; VLANs; network cards
//     that are up.
//   - not attached are: bridges, VRFs and Open vSwitch devices, because their ports are; members of a bond or team,
//     because that is; a veth with both ends in this namespace; tunnels and network cards that are down, until they
//     are up; and devices that carry no traffic of others, such as dummy and ifb.
func Select(links []Link, spec Spec) []Pick {
	byIndex := make(map[int]Link, len(links))
	for _, l := range links {
		byIndex[l.Index] = l
	}
	picks := make([]Pick, len(links))
	for i, l := range links {
		master := byIndex[l.Master]
		picks[i] = Pick{Link: l, Uplink: isUplink(l, master, spec)}
		if p, ok := matchAny(spec.Attach, l.Name); ok {
			picks[i].Attach = true
			picks[i].Reason = "named"
			if p != l.Name {
				picks[i].Reason = "matches " + p
			}
			continue
		}
		if slices.Contains(spec.Attach, Auto) {
			picks[i].Attach, picks[i].Reason = auto(l, master)
			continue
		}
		picks[i].Reason = "not named"
	}
	return picks
}

// Unmatched returns the names and globs of the spec that match none of the links.
func Unmatched(links []Link, spec Spec) []string {
	var none []string
	for _, p := range slices.Concat(spec.Attach, spec.Uplinks) {
		if p == Auto || slices.Contains(none, p) {
			continue
		}
		if !slices.ContainsFunc(links, func(l Link) bool { _, ok := matchAny([]string{p}, l.Name); return ok }) {
			none = append(none, p)
		}
	}
	return none
}

// isUplink follows the default route from a bridge down to its network cards: a bridged packet enters through the card, a
// routed one through the bridge.
func isUplink(l, master Link, spec Spec) bool {
	if len(spec.Uplinks) > 0 {
		_, named := matchAny(spec.Uplinks, l.Name)
		return named
	}
	if l.DefaultRoute || l.Tunnel() {
		return !l.Loopback()
	}
	return master.Bridge() && master.DefaultRoute && (l.Kind == "device" || l.Kind == "bond" || l.Kind == "team" || l.VLAN())
}

func auto(l, master Link) (attach bool, reason string) {
	switch {
	case l.Loopback():
		return true, "loopback: processes of this host that call each other"
	case l.Bridge():
		return false, "a bridge: its ports are attached"
	case l.Kind == "vrf":
		return false, "a VRF: its members are attached"
	case l.Kind == "openvswitch" && !l.DefaultRoute:
		return false, "internal to Open vSwitch: its ports are attached"
	case master.Kind == "bond" || master.Kind == "team":
		return false, fmt.Sprintf("member of %s %s, which is attached", master.Kind, master.Name)
	case l.DefaultRoute:
		return true, "uplink: has a default route"
	case l.Tunnel() && !l.Up:
		return false, "a tunnel that is down"
	case l.Tunnel():
		return true, "uplink: a tunnel (" + l.Kind + ")"
	case (l.Kind == "veth" || l.Kind == "netkit") && l.Away:
		return true, "host side of a pod or container (" + l.Kind + ")"
	case master.Bridge():
		return true, "port of bridge " + master.Name
	case l.Kind == "veth" || l.Kind == "netkit":
		return false, "both ends are in this network namespace"
	case l.Kind == "tun":
		return true, "a TAP device"
	case master.Kind == "openvswitch":
		return true, "port of Open vSwitch"
	case l.VLAN():
		return l.Up, upReason(l, "VLAN")
	case l.Kind == "bond" || l.Kind == "team":
		return l.Up, upReason(l, l.Kind)
	case l.Kind == "device" && l.Encap == "ether":
		return l.Up, upReason(l, "network card")
	}
	return false, "carries no traffic of pods or other nodes (" + l.Kind + ")"
}

func upReason(l Link, what string) string {
	if l.Up {
		return what + " that is up"
	}
	return what + " that is down"
}
