package neighbour

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// renewEvery is the interval at which a held entry is renewed. By default the kernel marks it as failed 3 s after the last
// renewal (three unanswered probes, a second apart).
const renewEvery = time.Second

// placeholder is the link-layer address of a neighbour whose address was never known: locally administered, so no card is
// made with it.
var placeholder = net.HardwareAddr{0x02, 'c', 'b', 0, 0, 1}

// A held entry makes the kernel pass packets for a neighbour that does not answer to the interface, where an egress program
// can answer them. The entry is put in the state NUD_PROBE: it is valid, but the kernel probes the neighbour each second,
// and marks the entry as failed if it is not renewed. NUD_REACHABLE lasts up to 45 s and NUD_STALE, while there is traffic,
// 8 s: too long if the holder is killed. Without NLM_F_REPLACE the kernel changes the state only while the entry has the
// same link-layer address, or none: an address that the neighbour has sent meanwhile stays.

// hold makes or renews an entry.
func hold(h *netlink.Handle, k Key, mac string) error {
	n := k.neigh()
	n.HardwareAddr = placeholder
	if mac != "" {
		n.HardwareAddr = net.HardwareAddr(mac)
	}
	// Only a change of the state restarts the probes.
	for _, state := range []int{unix.NUD_STALE, unix.NUD_PROBE} {
		n.State = state
		if err := h.NeighAppend(n); err != nil {
			return fmt.Errorf("hold the entry of %s: %w", k.Addr, err)
		}
	}
	return nil
}

// drop removes an entry: the next packet starts a new resolution.
func drop(h *netlink.Handle, k Key) error {
	if err := h.NeighDel(k.neigh()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the entry of %s: %w", k.Addr, err)
	}
	return nil
}

// resolve makes the kernel start a resolution now.
func resolve(h *netlink.Handle, k Key) error {
	n := k.neigh()
	n.Flags = netlink.NTF_USE
	if err := h.NeighSet(n); err != nil {
		return fmt.Errorf("resolve %s: %w", k.Addr, err)
	}
	return nil
}

func (k Key) neigh() *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: k.Link, IP: k.Addr.AsSlice(), Family: family(k)}
}

func family(k Key) int {
	if k.Addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
