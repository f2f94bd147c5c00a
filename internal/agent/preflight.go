package agent

import (
	"errors"

	"github.com/vishvananda/netns"

	"github.com/cbagent/cbagent/internal/attach"
	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
)

// Preflight returns one error that names everything that keeps an agent from starting here: what the kernel lacks, what
// the process may not do, and which interfaces and file systems are not there or not what they should be.
func Preflight(cfg Config) error {
	links, err := ifaces.List(netns.None())
	if err != nil {
		return err
	}
	errs := []error{loader.Supported(), attach.Missing(ifaces.Unmatched(links, cfg.Interfaces))}
	if cfg.Datapath.PinPath != "" {
		errs = append(errs, loader.CheckPinPath(cfg.Datapath.PinPath))
	}
	if cfg.Connect != "" {
		errs = append(errs, loader.CheckConnectCgroup(cfg.Connect))
	}
	_, err = cgroup.Find(cfg.PodsCgroup, cfg.NodeName != "")
	return errors.Join(append(errs, err)...)
}
