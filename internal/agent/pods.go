package agent

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/loader"
)

// findPods tells the datapath where the pods of this node are, so that the node's own checks of its pods can be told
// from calls of pods.
func (a *Agent) findPods() error {
	root, err := cgroup.Root()
	if err != nil {
		return err
	}
	pods, err := cgroup.Pods(root)
	if err != nil {
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
	level, err := loader.CgroupLevel(rootID)
	if err != nil {
		return fmt.Errorf("level of %s: %w", root, err)
	}
	level += strings.Count(pods, "/") + 1
	a.dp.SetPodsCgroup(id, level)
	a.log.Info("pods of this node", "cgroup", filepath.Join(root, pods), "level", level)
	return nil
}
