package attach

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/tables"
)

// addressesEvery is the interval at which the node's addresses are listed.
const addressesEvery = time.Second

// Addresses are those of the node, except loopback ones. The agent's lock protects them.
type Addresses struct {
	log  *slog.Logger
	node string // name of the node in Kubernetes, or empty
	list func() (map[netip.Addr]bool, error)
	own  map[netip.Addr]bool
	next int64
}

// NewAddresses returns Addresses that are not listed yet.
func NewAddresses(log *slog.Logger, node string) *Addresses {
	return &Addresses{log: log, node: node, list: listAddresses}
}

func listAddresses() (map[netip.Addr]bool, error) {
	all := map[netip.Addr]bool{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.IsLoopback() {
				all[ip.Unmap()] = true
			}
		}
	}
	return all, nil
}

// Expire makes the next Refresh list the addresses at any time.
func (a *Addresses) Expire() { a.next = 0 }

// Refresh lists the addresses when that is due, and reports whether they have changed. now is the kernel's monotonic time in
// ns.
func (a *Addresses) Refresh(now int64) (changed bool) {
	if now < a.next {
		return false
	}
	a.next = now + int64(addressesEvery)
	own, err := a.list()
	if err != nil {
		a.log.Warn("cannot find out which backends run on this node", "error", err)
		return false
	}
	changed = !maps.Equal(own, a.own)
	a.own = own
	return changed
}

// Flags returns the flags that describe where a backend runs.
func (a *Addresses) Flags(b discovery.Backend) tables.BackendFlags {
	var f tables.BackendFlags
	if a.own[b.Addr.Addr()] {
		f |= tables.OnHost
	}
	if a.node != "" && b.Node == a.node && b.Pod != "" {
		f |= tables.LocalPod
	}
	return f
}

// Within reports whether one of the node's addresses is in the prefix.
func (a *Addresses) Within(p netip.Prefix) bool {
	for addr := range a.own {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
