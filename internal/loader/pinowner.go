package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/filelock"
)

// Errors of pins of other agents, for errors.Is.
var (
	ErrBusy      = errors.New("another agent is running with these pins")
	ErrElsewhere = errors.New("the pins are those of an agent of another network namespace")
)

// inPod is the remedy in a pod: what a manifest needs for pins.
const inPod = "in a pod the volume `hostPath: {path: /sys/fs/bpf}` at `mountPath: /sys/fs/bpf`"

// CheckPinPath returns nil when an agent could pin below path: it is on a BPF file system or would be, and can be written.
func CheckPinPath(path string) error {
	// The directory itself need not exist yet, but its parent must.
	var st unix.Statfs_t
	at := path
	err := unix.Statfs(at, &st)
	if errors.Is(err, fs.ErrNotExist) {
		at = filepath.Dir(path)
		err = unix.Statfs(at, &st)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--bpffs %s: there is no %s: name a directory right below a BPF file system, such as /sys/fs/bpf/cbagent", path, at)
	case err != nil:
		return cannotPin(path, fmt.Errorf("look at %s: %w", at, err))
	case st.Type != unix.BPF_FS_MAGIC:
		return fmt.Errorf("--bpffs %s: %s is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf), %s; "+
			"or do without --bpffs", path, at, inPod)
	}
	if err := unix.Access(at, unix.W_OK); err != nil {
		return cannotPin(path, fmt.Errorf("write to %s: %w", at, err))
	}
	return nil
}

// cannotPin adds the remedy to an error of the file system.
func cannotPin(path string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("--bpffs %s: %w: mount -o remount,rw /sys/fs/bpf, %s without `readOnly: true`", path, err, inPod)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("--bpffs %s: %w: run as the owner of the directory, in a pod with `runAsUser: 0`, or name another", path, err)
	}
	return fmt.Errorf("--bpffs %s: %w", path, err)
}

// lockDir locks the directory for this process as long as the returned file is open.
func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, cannotPin(path, err)
	}
	if err := filelock.Lock(dir); err != nil {
		defer dir.Close()
		var held *filelock.HeldError
		if errors.As(err, &held) {
			return nil, fmt.Errorf("--bpffs %s: %w (%s): stop it (systemctl stop cbagent, or kubectl get daemonsets -A "+
				"-l app.kubernetes.io/name=cbagent to find one that is too many), or name another directory",
				path, ErrBusy, held.Holder)
		}
		return nil, fmt.Errorf("--bpffs %s: lock it: %w", path, err)
	}
	return dir, nil
}

const ownerPrefix = "netns-"

// ours reports whether the name is that of a directory that an agent creates for its pins.
func ours(name string) bool {
	return name == "links" || strings.HasPrefix(name, "maps-") || strings.HasPrefix(name, ownerPrefix) || isMark(name)
}

// ownerName is the name of the directory for the calling thread's network namespace.
func ownerName() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("look at the network namespace: %w", err)
	}
	return ownerPrefix + strconv.FormatUint(st.Ino, 10), nil
}

// claim records that the pins are those of the calling thread's network namespace. Links are named by the index of their
// interface, which is ambiguous between namespaces: it returns an error while links of another namespace are attached. It
// removes links whose interfaces are gone with their namespace.
func (p *pins) claim() error {
	own, err := ownerName()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return cannotPin(p.path, err)
	}
	for _, e := range entries {
		other, found := strings.CutPrefix(e.Name(), ownerPrefix)
		if !found || e.Name() == own {
			continue
		}
		if attached := p.attached(); len(attached) > 0 {
			return fmt.Errorf("--bpffs %s: %w (net:[%s]), and %s still attached: name another directory, in a pod set "+
				"`hostNetwork: true`, or take them away with `cbagent detach --bpffs %s`",
				p.path, ErrElsewhere, other, strings.Join(attached, ", "), p.path)
		}
		err := errors.Join(removeTree(p.links()), os.Mkdir(p.links(), 0o700), p.unmarkAll(), os.Remove(filepath.Join(p.path, e.Name())))
		if err != nil {
			return fmt.Errorf("--bpffs %s: forget an agent of a network namespace that is gone: %w", p.path, err)
		}
	}
	if err := os.Mkdir(filepath.Join(p.path, own), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return cannotPin(p.path, err)
	}
	return nil
}

// attached returns the names of the pinned links that are attached.
func (p *pins) attached() []string {
	entries, err := os.ReadDir(p.links())
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if l, err := link.LoadPinnedLink(filepath.Join(p.links(), e.Name()), nil); err == nil {
			if alive(l) {
				names = append(names, e.Name())
			}
			l.Close()
		}
	}
	return names
}

// alive reports whether the target of a link still exists: for one that is gone the kernel returns the number 0.
func alive(l link.Link) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	if x := info.TCX(); x != nil {
		return x.Ifindex != 0
	}
	if x := info.XDP(); x != nil {
		return x.Ifindex != 0
	}
	if x := info.NetNs(); x != nil {
		return x.NetnsInode != 0
	}
	return false // a cgroup is the same in every network namespace
}
