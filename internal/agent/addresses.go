package agent

import "github.com/cbagent/cbagent/internal/tables"

// refreshAddresses writes to the kernel which backends run on this node when its addresses have changed.
func (f *inForce) refreshAddresses(now int64) {
	if !f.addresses.Refresh(now) {
		return
	}
	onHost := f.nodeInNetworks()
	for _, c := range f.circuits {
		if c == nil {
			continue
		}
		for _, b := range c.backends {
			flags := f.addresses.Flags(b)
			onHost = onHost || flags&tables.OnHost != 0
			key := tables.Backend{Addr: b.Addr, Direction: tables.Direction(c.policy.Direction)}
			if err := f.dp.PutBackend(key, c.id, flags); err != nil {
				f.log.Error("cannot write the backend to the map", "policy", c.policy.Name, "backend", b.Addr, "error", err)
			}
		}
	}
	f.dp.SetHostBackends(onHost)
}

// nodeInNetworks reports whether a learned backend may be an address of the node: programs see what goes there only on its
// way in.
func (f *inForce) nodeInNetworks() bool {
	for _, p := range f.policies {
		for _, c := range p.Match.CIDRs {
			if f.addresses.Within(c.Prefix) {
				return true
			}
		}
	}
	return false
}
