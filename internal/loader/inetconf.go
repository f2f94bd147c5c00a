package loader

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// inetSetting is an IPv4 setting of an interface (net.ipv4.conf.NAME.*), by its number in IFLA_INET_CONF.
type inetSetting uint16

// The settings that the agent changes, from linux/ip.h.
const (
	acceptLocal    inetSetting = 23
	routeLocalnet  inetSetting = 26
	inetConfTree               = unix.IFLA_AF_SPEC
	inetConfValues             = 1 // IFLA_INET_CONF, of linux/if_link.h
)

func (s inetSetting) String() string {
	switch s {
	case acceptLocal:
		return "accept_local"
	case routeLocalnet:
		return "route_localnet"
	}
	return fmt.Sprintf("setting %d", uint16(s))
}

// inetConf reads and writes IPv4 settings of interfaces by rtnetlink, which needs no writable /proc/sys. It uses the
// network namespace of the thread that created it.
type inetConf struct{ socket *nl.NetlinkSocket }

func newInetConf() (*inetConf, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &inetConf{s}, nil
}

func (c *inetConf) close() { c.socket.Close() }

func (c *inetConf) request(kind, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: c.socket}}
	return r
}

// get reads a setting.
func (c *inetConf) get(ifindex int, s inetSetting) (uint32, error) {
	r := c.request(unix.RTM_GETLINK, 0)
	r.AddData(&nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: int32(ifindex)}})
	replies, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return 0, fmt.Errorf("read %s of interface %d: %w", s, ifindex, err)
	}
	for _, reply := range replies {
		if len(reply) < unix.SizeofIfInfomsg {
			continue
		}
		values := reply[unix.SizeofIfInfomsg:]
		for _, kind := range []uint16{inetConfTree, unix.AF_INET, inetConfValues} {
			attrs, err := nl.ParseRouteAttrAsMap(values)
			if err != nil {
				return 0, fmt.Errorf("read %s of interface %d: %w", s, ifindex, err)
			}
			values = attrs[kind].Value
		}
		// An array of words, the first of which is setting 1.
		if at := 4 * (int(s) - 1); at+4 <= len(values) {
			return binary.NativeEndian.Uint32(values[at:]), nil
		}
	}
	return 0, fmt.Errorf("read %s of interface %d: the kernel does not name it", s, ifindex)
}

// set writes a setting.
func (c *inetConf) set(ifindex int, s inetSetting, value uint32) error {
	r := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	r.AddData(&nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: int32(ifindex)}})
	tree := nl.NewRtAttr(inetConfTree, nil)
	tree.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConfValues, nil).AddRtAttr(int(s), nl.Uint32Attr(value))
	r.AddData(tree)
	if _, err := r.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set %s of interface %d to %d: %w", s, ifindex, value, err)
	}
	return nil
}
