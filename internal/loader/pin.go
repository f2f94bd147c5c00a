package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/tables"
)

// pins is a directory of a BPF file system, locked by this process:
//
//	PATH/maps-LAYOUT/NAME        maps; LAYOUT is a hash of their kinds, sizes and BTF
//	PATH/links/WHERE-HOOK        attached programs; WHERE is an interface, a cgroup or a network namespace by number
//	PATH/netns-NUMBER            the network namespace whose interfaces the links are on
//	PATH/lo-SETTING              a setting of lo that is changed as long as programs are attached there
//
// Maps of another layout are left alone until the new programs are attached, and then removed.
type pins struct {
	path string
	maps string
	lock *os.File
	log  *slog.Logger
	used map[string]bool // links that this process has taken over or made
}

func openPins(path string, spec *ebpf.CollectionSpec, log *slog.Logger) (*pins, error) {
	hash, err := tables.Layout(spec)
	if err != nil {
		return nil, err
	}
	p := &pins{path: path, maps: filepath.Join(path, "maps-"+hash), log: log, used: map[string]bool{}}
	if err := CheckPinPath(path); err != nil {
		return nil, err
	}
	for _, dir := range []string{p.maps, p.links()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, cannotPin(path, err)
		}
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	p.lock = lock
	if err := p.claim(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pins) links() string { return filepath.Join(p.path, "links") }

func (p *pins) close() error {
	if p == nil || p.lock == nil {
		return nil
	}
	lock := p.lock
	p.lock = nil
	return lock.Close()
}

func (d *Datapath) loadObjects(spec *ebpf.CollectionSpec) error {
	var opts ebpf.CollectionOptions
	if d.opts.PinPath != "" {
		var err error
		if d.pins, err = openPins(d.opts.PinPath, spec, d.log); err != nil {
			return err
		}
		for name, m := range spec.Maps {
			if tables.Pinned(name) {
				m.Pinning = ebpf.PinByName
			}
		}
		opts.Maps.PinPath = d.pins.maps
	}
	err := spec.LoadAndAssign(&d.objs, &opts)
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		d.log.Debug("the verifier rejected a program", "log", fmt.Sprintf("%+v", ve))
	}
	if err != nil {
		return fmt.Errorf("load the programs: %w", err)
	}
	return nil
}

func linkName(index int, a attachment) string {
	return fmt.Sprintf("%d-%s", index, strings.TrimPrefix(a.name, "cbagent-"))
}

// adopt atomically replaces the program of a link that a former agent has pinned. It returns nil if there is no such link.
func (p *pins) adopt(name string, prog *ebpf.Program) link.Link {
	if p == nil {
		return nil
	}
	path := filepath.Join(p.links(), name)
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("pinned link is not usable, attaching anew", "path", path, "error", err)
			os.Remove(path)
		}
		return nil
	}
	if err := l.Update(prog); err != nil {
		// The interface is gone and another has its index.
		p.log.Debug("pinned link is dead, attaching anew", "path", path, "error", err)
		l.Unpin()
		l.Close()
		return nil
	}
	p.used[name] = true
	return l
}

// pin pins a link, so that it outlives this process.
func (p *pins) pin(name string, l link.Link) error {
	if p == nil {
		return nil
	}
	path := filepath.Join(p.links(), name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace pin: %w", err)
	}
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pin to %s: %w", path, err)
	}
	p.used[name] = true
	return nil
}

// closeLink closes a link; with keep a pinned link stays attached.
func (p *pins) closeLink(l link.Link, keep bool) error {
	if keep && p != nil {
		return l.Close()
	}
	return errors.Join(l.Unpin(), l.Close())
}

// Prune removes links of a former agent that this one does not use, and maps of other layouts. It is called when all
// programs are attached at the start.
func (d *Datapath) Prune() error {
	if d.pins == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	entries, err := os.ReadDir(d.pins.links())
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	if d.nat.conf == nil { // this agent is not attached to lo
		_, err := d.pins.restoreLo()
		errs = append(errs, err, d.pins.unmarkAll())
	}
	for _, e := range entries {
		if !d.pins.used[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(d.pins.links(), e.Name())))
		}
	}
	others, err := filepath.Glob(filepath.Join(d.pins.path, "maps-*"))
	errs = append(errs, err)
	for _, dir := range others {
		if dir == d.pins.maps {
			continue
		}
		d.log.Warn("state of an agent with another layout is dropped: circuits begin anew", "path", dir)
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// removeTree removes a directory of pins; os.RemoveAll needs operations that a BPF file system lacks.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			errs = append(errs, removeTree(path))
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// DetachAll removes all that agents with these pins have left: links, maps, and clsact filters on interfaces of the calling
// thread's network namespace. Pins of others in the same directory stay. It returns an error while such an agent runs. An
// empty path means that nothing is pinned. It returns a description of each removed object.
func DetachAll(path string) ([]string, error) {
	var removed []string
	var errs []error
	if path != "" {
		if _, err := os.Stat(path); err == nil {
			lock, err := lockDir(path)
			if err != nil {
				return nil, err
			}
			defer lock.Close()
			entries, err := os.ReadDir(path)
			errs = append(errs, err)
			if here, err := ownerName(); err != nil {
				errs = append(errs, err)
			} else if _, err := os.Stat(filepath.Join(path, here)); err == nil {
				restored, err := (&pins{path: path}).restoreLo()
				removed = append(removed, restored...)
				errs = append(errs, err)
			}
			// Programs first: they use the maps.
			slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
			others := 0
			for _, e := range entries {
				if !ours(e.Name()) {
					others++
					continue
				}
				pinned, _ := os.ReadDir(filepath.Join(path, e.Name()))
				for _, l := range pinned {
					removed = append(removed, "pin "+filepath.Join(path, e.Name(), l.Name()))
				}
				errs = append(errs, removeTree(filepath.Join(path, e.Name())))
			}
			if others == 0 {
				errs = append(errs, os.Remove(path))
			}
		}
	}
	links, err := netlink.LinkList()
	errs = append(errs, err)
	for _, l := range links {
		found, err := detachClsact(l)
		removed = append(removed, found...)
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

func detachClsact(l netlink.Link) ([]string, error) {
	var removed []string
	var errs []error
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(l, parent)
		if err != nil {
			continue // no such qdisc
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, "cbagent-") {
				if err := netlink.FilterDel(f); err != nil && !gone(err) {
					errs = append(errs, fmt.Errorf("remove filter from %s: %w", l.Attrs().Name, err))
					continue
				}
				removed = append(removed, "filter "+b.Name+" on "+l.Attrs().Name)
			}
		}
	}
	if len(removed) > 0 {
		q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}, QdiscType: "clsact"}
		if err := removeIfEmpty(q); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}
