// Package cgroup finds cgroups, their ids and their levels, above all the cgroup of a node's pods: by it the datapath
// distinguishes the node's own processes from those of pods.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of Root and Pods, for errors.Is.
var (
	ErrNoHierarchy = errors.New("no cgroup v2 hierarchy is mounted")
	ErrNoPods      = errors.New("no cgroup of pods")
)

// inPod is what a manifest needs, as a remedy.
const inPod = "in a pod the volume `hostPath: {path: /sys/fs/cgroup}` at `mountPath: /sys/fs/cgroup`"

// deepest is how far below the root the kubelet may have put the pods (--cgroup-root): kind's nodes have them at depth 2.
const deepest = 3

// Root is where the cgroup v2 hierarchy is mounted: below /sys/fs/cgroup, or in its folder unified where the old
// hierarchies are there as well.
func Root() (string, error) {
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if Check(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w at /sys/fs/cgroup or /sys/fs/cgroup/unified: boot the node with systemd.unified_cgroup_hierarchy=1 or "+
		"mount -t cgroup2 cgroup2 /sys/fs/cgroup, %s", ErrNoHierarchy, inPod)
}

// Check returns nil when path is on a cgroup v2 file system.
func Check(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return err
	}
	if s.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("not on a cgroup v2 file system")
	}
	return nil
}

// Pods finds the kubelet's cgroup of all pods below root and returns its path relative to it: kubepods with the kubelet's
// own cgroup driver, kubepods.slice with systemd's.
func Pods(root string) (string, error) {
	var found string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it has gone meanwhile
			}
			return err
		}
		if !entry.IsDir() || path == root {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if isPods(entry.Name()) {
			found = relative
			return fs.SkipAll
		}
		if strings.Count(relative, "/")+1 >= deepest {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look for the cgroup of pods: %w", err)
	}
	if found == "" {
		return "", fmt.Errorf("%w below %s: no kubelet has started pods here, or it keeps them elsewhere (its --cgroup-root; find %s "+
			"-name '*kubepods*' shows where), or this is a container's own view: %s", ErrNoPods, root, root, inPod)
	}
	return found, nil
}

// Below returns path relative to root, or an error when it is no cgroup below root.
func Below(root, path string) (string, error) {
	relative, err := filepath.Rel(root, path)
	if err != nil || relative == "." || !filepath.IsLocal(relative) {
		return "", fmt.Errorf("%w at %s: it must be below %s", ErrNoPods, path, root)
	}
	if err := Check(path); err != nil {
		return "", fmt.Errorf("%w at %s: %w", ErrNoPods, path, err)
	}
	return relative, nil
}

func isPods(name string) bool {
	return name == "kubepods" || name == "kubepods.slice" || strings.HasSuffix(name, "-kubepods.slice")
}

// ID returns the kernel's id of the cgroup at path.
func ID(path string) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, fmt.Errorf("id of cgroup %s: %w", path, err)
	}
	return s.Ino, nil
}
