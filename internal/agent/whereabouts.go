package agent

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/loader"
)

// localAddresses are those of this node.
type localAddresses map[netip.Addr]bool

func addressesOfNode() (localAddresses, error) {
	all := localAddresses{}
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

// whereabouts says what the kernel should know of where a backend runs.
func (a *Agent) whereabouts(b discovery.Backend) loader.BackendFlags {
	var f loader.BackendFlags
	if a.local[b.Addr.Addr()] {
		f |= loader.OnHost
	}
	if a.cfg.NodeName != "" && b.Node == a.cfg.NodeName && b.Pod != "" {
		f |= loader.LocalPod
	}
	return f
}

// watchAddresses looks once a second whether the node has other addresses, and tells the kernel which backends that
// makes the node's own.
func (a *Agent) watchAddresses(now int64) {
	if now < a.nextLook {
		return
	}
	a.nextLook = now + int64(time.Second)
	local, err := addressesOfNode()
	if err != nil {
		a.log.Warn("addresses", "error", err)
		return
	}
	if maps.Equal(local, a.local) {
		return
	}
	a.local = local
	onHost := a.nodeInNetworks()
	for _, c := range a.circuits {
		if c == nil {
			continue
		}
		for _, b := range c.backends {
			flags := a.whereabouts(b)
			onHost = onHost || flags&loader.OnHost != 0
			key := loader.Backend{Addr: b.Addr, Direction: loader.Direction(c.policy.Direction)}
			if err := a.dp.PutBackend(key, c.id, flags); err != nil {
				a.log.Error("backend", "policy", c.policy.Name, "error", err)
			}
		}
	}
	a.dp.SetHostBackends(onHost)
}

// nodeInNetworks reports whether a backend that is learned may be an address of the node: what goes there is seen on its
// way in alone.
func (a *Agent) nodeInNetworks() bool {
	for _, p := range a.policies {
		for _, c := range p.Match.CIDRs {
			for addr := range a.local {
				if c.Prefix.Contains(addr) {
					return true
				}
			}
		}
	}
	return false
}
