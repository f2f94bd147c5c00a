package agent

import (
	"errors"

	"github.com/vishvananda/netns"

	"github.com/cbagent/cbagent/internal/attach"
	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
)

// Preflight returns one error that names everything that prevents an agent from starting on this machine: missing features
// of the kernel, missing rights of the process, and interfaces and file systems that are missing or unsuitable.
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
