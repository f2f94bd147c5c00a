package neighbour

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// renewEvery is how often a held entry is renewed. The kernel gives it up 3 s after the last time (three unanswered probes, a
// second apart), unless sysctls say otherwise.
const renewEvery = time.Second

// nobody is the link-layer address of a neighbour that never had one: locally administered, so no card is made with it.
var nobody = net.HardwareAddr{0x02, 'c', 'b', 0, 0, 1}

// A held entry makes the kernel pass packets for a neighbour that does not answer to the interface, where an egress program can
// answer them. It is put in the state NUD_PROBE: valid, but the kernel asks the neighbour each second, and gives the entry up by
// itself when nobody puts it there again. NUD_REACHABLE lasts up to 45 s and NUD_STALE, while there is traffic, 8 s: too long
// after a holder that was killed. Without NLM_F_REPLACE the kernel does so only while the entry has the same link-layer address,
// or none: one that the neighbour has sent meanwhile stays.

// hold makes or renews an entry.
func hold(h *netlink.Handle, k Key, mac string) error {
	n := k.neigh()
	n.HardwareAddr = nobody
	if mac != "" {
		n.HardwareAddr = net.HardwareAddr(mac)
	}
	// Only a change of the state begins the probing anew.
	for _, state := range []int{unix.NUD_STALE, unix.NUD_PROBE} {
		n.State = state
		if err := h.NeighAppend(n); err != nil {
			return fmt.Errorf("hold the entry of %s: %w", k.Addr, err)
		}
	}
	return nil
}

// drop removes an entry: the next packet begins a resolution anew.
func drop(h *netlink.Handle, k Key) error {
	if err := h.NeighDel(k.neigh()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the entry of %s: %w", k.Addr, err)
	}
	return nil
}

// resolve has the kernel begin a resolution now.
func resolve(h *netlink.Handle, k Key) error {
	n := k.neigh()
	n.Flags = netlink.NTF_USE
	if err := h.NeighSet(n); err != nil {
		return fmt.Errorf("ask for %s: %w", k.Addr, err)
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
