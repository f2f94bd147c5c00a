package attach

import "github.com/cbagent/cbagent/internal/loader"

// UseXDP attaches XDP to the uplinks when a policy can use it, and detaches it when none can. It skips veths unless the
// mode is named: native XDP disables their segmentation offload.
func (i *Interfaces) UseXDP(useful bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.useXDP = useful
	i.setXDP()
}

func (i *Interfaces) setXDP() {
	if i.xdp == "" {
		return
	}
	for index, p := range i.picks {
		if !i.useXDP || !p.Uplink || !p.Attach || !p.Link.HasMAC() || i.xdp == loader.XDPAuto && p.Link.Kind == "veth" {
			if err := i.dp.DetachXDP(index); err != nil {
				i.log.Warn("cannot detach XDP from the interface", "interface", p.Link.Name, "error", err)
			}
			continue
		}
		if _, attached := i.dp.XDPModes()[index]; attached || i.noXDP[index] {
			continue
		}
		used, err := i.dp.AttachXDP(p.Link.Name, i.xdp)
		if err != nil {
			i.noXDP[index] = true
			i.log.Warn("cannot attach XDP to the interface: TC rejects new connections, a little later", "interface", p.Link.Name, "error", err)
			continue
		}
		i.log.Info("attached XDP to the interface", "interface", p.Link.Name, "mode", used)
	}
}
