// Package cluster runs a real Kubernetes cluster for tests: a control plane and
// nodes with containerd, kubelet and kube-proxy, each in namespaces of its own on
// this machine.
//
//	control plane 10.77.0.1 ---- br0 ---- eth0 node-1 10.77.0.11, pods 10.244.1.0/24
//	                                 ---- eth0 node-2 10.77.0.12, pods 10.244.2.0/24
//
// eth0 is each node's uplink; the pods are on a bridge, with addresses that the
// other node routes to.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

// Config says what to run.
type Config struct {
	Binaries  string   // folder of scripts/kube-binary.sh
	Dir       string   // for everything that the cluster writes
	Nodes     int      // 1 to 9
	Images    []string // paths of image tars that every node gets; one must be localhost/pause:1
	ProxyMode string   // of kube-proxy: nftables or iptables
}

// Cluster is a running one. Stop ends it.
type Cluster struct {
	*controlplane.ControlPlane
	Nodes []*Node

	lab netlab.Lab
}

var controlPlaneAddress = netip.MustParseAddr("10.77.0.1")

// Start gives a cluster whose nodes are all Ready, or an error with the end of the
// logs. It waits as long as ctx allows; 15 seconds are usual.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	c := &Cluster{}
	if err := c.start(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("start the cluster: %w\n%s", err, c.Logs()), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, config Config) error {
	outer, err := c.network(config)
	if err != nil {
		return err
	}
	c.ControlPlane, err = controlplane.Start(ctx, controlplane.Config{
		Binaries:    config.Binaries,
		Dir:         config.Dir,
		Address:     controlPlaneAddress,
		Controllers: true,
		Namespace:   outer,
	})
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.start(c.ControlPlane, config); err != nil {
			return err
		}
	}
	return c.ready(ctx)
}

// network connects the nodes with the control plane, and gives the namespace of the
// latter.
func (c *Cluster) network(config Config) (*netlab.Namespace, error) {
	outer, err := c.lab.Namespace("control-plane")
	if err != nil {
		return nil, err
	}
	var ports []string
	for i := 1; i <= config.Nodes; i++ {
		n := &Node{
			Name:    fmt.Sprintf("node-%d", i),
			Address: netip.AddrFrom4([4]byte{10, 77, 0, byte(10 + i)}),
			PodCIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24),
		}
		n.Dir = filepath.Join(config.Dir, n.Name)
		c.Nodes = append(c.Nodes, n)
		if n.Namespace, err = c.lab.Namespace(n.Name); err != nil {
			return nil, err
		}
		port := fmt.Sprintf("n%d", i)
		ports = append(ports, port)
		if err := c.lab.Veth(
			netlab.End{In: outer, Interface: port},
			netlab.End{In: n.Namespace, Interface: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(n.Address, 24)}},
		); err != nil {
			return nil, err
		}
		if err := n.Namespace.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
			return nil, err
		}
		if err := n.Namespace.Route(netip.MustParsePrefix("0.0.0.0/0"), controlPlaneAddress); err != nil {
			return nil, err
		}
	}
	if err := c.lab.Bridge(outer, "br0", ports, []netip.Prefix{netip.PrefixFrom(controlPlaneAddress, 24)}); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if err := outer.Route(n.PodCIDR, n.Address); err != nil {
			return nil, err
		}
		for _, other := range c.Nodes {
			if other == n {
				continue
			}
			if err := other.Namespace.Route(n.PodCIDR, n.Address); err != nil {
				return nil, err
			}
		}
	}
	return outer, nil
}

// ready waits until every node says that it is.
func (c *Cluster) ready(ctx context.Context) error {
	const condition = `{range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}`
	want := strings.Repeat("True ", len(c.Nodes))
	for {
		said, err := c.Kubectl(ctx, "get", "nodes", "-o", "jsonpath="+condition)
		if err == nil && string(said) == want {
			return nil
		}
		for _, n := range c.Nodes {
			if n.process.Exited() {
				return fmt.Errorf("%s has ended: %s", n.Name, n.process.State())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nodes ready: %q, want %q: %w", said, want, errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Stop ends the nodes and the control plane and takes away what they made on this
// machine.
func (c *Cluster) Stop() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.stop())
	}
	if c.ControlPlane != nil {
		errs = append(errs, c.ControlPlane.Stop())
	}
	return errors.Join(append(errs, c.lab.Close())...)
}

// Logs is the end of every component's log.
func (c *Cluster) Logs() string {
	var all bytes.Buffer
	if c.ControlPlane != nil {
		all.WriteString(c.ControlPlane.Logs())
	}
	for _, n := range c.Nodes {
		if n.process != nil {
			fmt.Fprintf(&all, "--- %s\n%s\n", n.Name, n.process.Tail())
		}
		logs, _ := filepath.Glob(filepath.Join(n.Dir, "log", "*.log"))
		for _, log := range logs {
			data, err := os.ReadFile(log)
			if err != nil {
				data = []byte(err.Error())
			}
			fmt.Fprintf(&all, "--- %s %s\n%s\n", n.Name, filepath.Base(log), data[max(0, len(data)-4096):])
		}
	}
	return all.String()
}
