package cluster

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/test/k8s/controlplane"
	"github.com/cbagent/cbagent/test/k8s/process"
)

var (
	//go:embed node.sh
	nodeScript []byte
	//go:embed runc-without-limits.sh
	runcWithoutLimits []byte
)

// Node is one node of the cluster.
type Node struct {
	Name      string
	Address   netip.Addr
	PodCIDR   netip.Prefix
	Namespace *netlab.Namespace
	Dir       string // its files; log/ has those of its components

	process *process.Process
}

// start runs the node; it becomes Ready by and by.
func (n *Node) start(c *controlplane.ControlPlane, config Config) error {
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return fmt.Errorf("folder of %s: %w", n.Name, err)
	}
	kubelet, err := c.Kubeconfig(n.Name, "system:node:"+n.Name, "system:nodes")
	if err != nil {
		return err
	}
	proxy, err := c.Kubeconfig(n.Name+"-proxy", "system:kube-proxy")
	if err != nil {
		return err
	}
	for name, target := range map[string]string{
		"kubelet.kubeconfig": kubelet,
		"proxy.kubeconfig":   proxy,
		"ca.crt":             c.CertificateAuthority(),
	} {
		if err := os.Symlink(target, filepath.Join(n.Dir, name)); err != nil {
			return fmt.Errorf("files of %s: %w", n.Name, err)
		}
	}
	for name, script := range map[string][]byte{"node.sh": nodeScript, "runc-without-limits": runcWithoutLimits} {
		if err := os.WriteFile(filepath.Join(n.Dir, name), script, 0o755); err != nil {
			return fmt.Errorf("files of %s: %w", n.Name, err)
		}
	}

	cmd := exec.Command(filepath.Join(n.Dir, "node.sh"))
	cmd.Env = append(os.Environ(),
		"NODE="+n.Name,
		"NODE_IP="+n.Address.String(),
		"POD_CIDR="+n.PodCIDR.String(),
		"DIR="+n.Dir,
		"BINARIES="+config.Binaries,
		"IMAGES="+strings.Join(config.Images, " "),
		"PROXY_MODE="+config.ProxyMode,
	)
	n.process, err = process.Start(n.Dir, "node", cmd, n.Namespace)
	return err
}

// stop ends the node with all its containers, and removes its cgroups.
func (n *Node) stop() error {
	if n.process == nil {
		return nil
	}
	err := n.process.Stop()
	n.process = nil
	name, readErr := os.ReadFile(filepath.Join(n.Dir, "cgroup"))
	if readErr != nil {
		return errors.Join(err, fmt.Errorf("cgroup of %s: %w", n.Name, readErr))
	}
	return errors.Join(err, removeCgroup(strings.TrimSpace(string(name))))
}

// removeCgroup removes a cgroup and those below it, once the processes that were
// killed have left them.
func removeCgroup(root string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		var folders []string
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return err
		})
		for _, folder := range slices.Backward(folders) {
			err = errors.Join(err, os.Remove(folder))
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", root, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
