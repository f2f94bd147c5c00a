package cgroup

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Settings of Find besides a path.
const (
	Auto = "auto" // where the kubelet has the pods; none outside Kubernetes
	None = "none" // the node's own checks of its pods are not distinguished from calls of others
)

// NodePods is where the pods of this node run. The zero value means that it need not be known.
type NodePods struct {
	Root string // of the hierarchy
	Pods string // relative to Root, at least one element
}

// Find returns where the pods of this node run. The setting is Auto, None, empty (as None) or the path of a cgroup.
func Find(setting string, inKubernetes bool) (NodePods, error) {
	if setting == None || setting == "" || setting == Auto && !inKubernetes {
		return NodePods{}, nil
	}
	const remedy = "; --pods-cgroup=DIRECTORY names it, --pods-cgroup=none does without: then the kubelet's checks of a pod whose " +
		"circuit is open are rejected, and it restarts the pod"
	root, err := Root()
	if err != nil {
		return NodePods{}, fmt.Errorf("%w%s", err, remedy)
	}
	var pods string
	if setting == Auto {
		pods, err = Pods(root)
	} else {
		pods, err = Below(root, setting)
	}
	if err != nil {
		return NodePods{}, fmt.Errorf("%w%s", err, remedy)
	}
	return NodePods{root, pods}, nil
}

// Known reports whether there are pods to be distinguished.
func (n NodePods) Known() bool { return n.Root != "" }

// Path returns the path of the cgroup of all pods.
func (n NodePods) Path() string { return filepath.Join(n.Root, n.Pods) }

// Place returns the kernel's id of the cgroup of all pods and its depth below the kernel's root, as programs see it.
func (n NodePods) Place() (id uint64, level int, err error) { return n.place(Level) }

// place is Place with the function that returns the level of the root.
func (n NodePods) place(levelOf func(id uint64) (int, error)) (id uint64, level int, err error) {
	root, err := ID(n.Root)
	if err != nil {
		return 0, 0, err
	}
	if id, err = ID(n.Path()); err != nil {
		return 0, 0, err
	}
	if level, err = levelOf(root); err != nil {
		return 0, 0, fmt.Errorf("level of %s: %w; --pods-cgroup=none does without", n.Root, err)
	}
	return id, level + len(strings.Split(n.Pods, "/")), nil
}
