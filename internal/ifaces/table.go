package ifaces

import (
	"cmp"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"
)

// table holds the links and default routes of one namespace.
type table struct {
	links    map[int]Link
	defaults map[int]bool
	births   uint64
}

// load reads all links and routes. Links that were known keep their Born.
func (t *table) load(handle *netlink.Handle) error {
	links, err := listLinks(handle)
	if err != nil {
		return err
	}
	defaults, err := listDefaultRoutes(handle)
	if err != nil {
		return err
	}
	old := t.links
	t.links, t.defaults = make(map[int]Link, len(links)), defaults
	for _, l := range links {
		// The notifications in between may be lost, so only the other properties show that an index was used again.
		if was, ok := old[l.Index]; ok && was.Kind == l.Kind && was.Encap == l.Encap && (was.Name == l.Name || was.MAC != "" && was.MAC == l.MAC) {
			l.Born = was.Born
			t.links[l.Index] = l
			continue
		}
		t.set(l)
	}
	return nil
}

// set stores a link that is new or has changed.
func (t *table) set(l Link) {
	if was, ok := t.links[l.Index]; ok {
		l.Born = was.Born
	} else {
		t.births++
		l.Born = t.births
	}
	t.links[l.Index] = l
}

func (t *table) remove(index int) { delete(t.links, index) }

// list returns the links in the order of their index.
func (t *table) list() []Link {
	all := slices.SortedFunc(maps.Values(t.links), func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	for i := range all {
		all[i].DefaultRoute = t.defaults[all[i].Index]
	}
	return all
}
