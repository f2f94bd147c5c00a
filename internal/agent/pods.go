package agent

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cbagent/cbagent/internal/cgroup"
)

// podsCgroup returns the root of the cgroups and, relative to it, the cgroup of the node's pods; empty when it need not be
// known.
func podsCgroup(cfg *Config) (root, pods string, err error) {
	if cfg.PodsCgroup == PodsNone || cfg.PodsCgroup == "" || cfg.PodsCgroup == PodsAuto && cfg.NodeName == "" {
		return "", "", nil
	}
	const remedy = "; --pods-cgroup=DIRECTORY names it, --pods-cgroup=none does without: then the kubelet's checks of a pod whose " +
		"circuit is open are rejected, and it restarts the pod"
	if root, err = cgroup.Root(); err != nil {
		return "", "", fmt.Errorf("%w%s", err, remedy)
	}
	if cfg.PodsCgroup == PodsAuto {
		pods, err = cgroup.Pods(root)
	} else {
		pods, err = cgroup.Below(root, cfg.PodsCgroup)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w%s", err, remedy)
	}
	return root, pods, nil
}

// findPods tells the datapath where the pods of this node are, so that the node's own checks of its pods can be told
// from calls of pods.
func (a *Agent) findPods() error {
	root, pods, err := podsCgroup(&a.cfg)
	if err != nil || root == "" {
		return err
	}
	id, err := cgroup.ID(filepath.Join(root, pods))
	if err != nil {
		return err
	}
	rootID, err := cgroup.ID(root)
	if err != nil {
		return err
	}
	level, err := cgroup.Level(rootID)
	if err != nil {
		return fmt.Errorf("level of %s: %w; --pods-cgroup=none does without", root, err)
	}
	level += strings.Count(pods, "/") + 1
	a.dp.SetPodsCgroup(id, level)
	a.log.Info("pods of this node", "cgroup", filepath.Join(root, pods), "level", level)
	return nil
}
