package agent

import "github.com/cbagent/cbagent/internal/loader"

// refreshAddresses writes to the kernel which backends run on this node when its addresses have changed.
func (a *Agent) refreshAddresses(now int64) {
	if !a.addresses.Refresh(now) {
		return
	}
	onHost := a.nodeInNetworks()
	for _, c := range a.circuits {
		if c == nil {
			continue
		}
		for _, b := range c.backends {
			flags := a.addresses.Flags(b)
			onHost = onHost || flags&loader.OnHost != 0
			key := loader.Backend{Addr: b.Addr, Direction: loader.Direction(c.policy.Direction)}
			if err := a.dp.PutBackend(key, c.id, flags); err != nil {
				a.log.Error("cannot write the backend to the map", "policy", c.policy.Name, "backend", b.Addr, "error", err)
			}
		}
	}
	a.dp.SetHostBackends(onHost)
}

// nodeInNetworks reports whether a learned backend may be an address of the node: programs see what goes there only on its
// way in.
func (a *Agent) nodeInNetworks() bool {
	for _, p := range a.policies {
		for _, c := range p.Match.CIDRs {
			if a.addresses.Within(c.Prefix) {
				return true
			}
		}
	}
	return false
}
