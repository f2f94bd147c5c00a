package policy

import (
	"os"
	"path/filepath"
)

// trail holds the folders in which something may happen that changes what a path leads to, and the names in them that
// matter; nil means all names.
type trail map[string]map[string]bool

// trailOf follows path, every symlink on the way, and those in it if it is a folder.
func trailOf(path string) trail {
	t := trail{}
	t.follow(path, 0)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		t[realPath(path)] = nil
		entries, _ := os.ReadDir(path) // what cannot be read has nothing to follow
		for _, entry := range entries {
			if entry.Type()&os.ModeSymlink != 0 && filepath.Ext(entry.Name()) == ".yaml" {
				t.follow(filepath.Join(path, entry.Name()), 0)
			}
		}
	}
	return t
}

// maxLinks is what Linux follows in one path.
const maxLinks = 40

func (t trail) follow(path string, links int) {
	t.add(path)
	if _, err := os.Lstat(filepath.Dir(path)); err != nil && path != filepath.Dir(path) {
		t.follow(filepath.Dir(path), links) // wait for the folder to come
		return
	}
	for at := path; at != filepath.Dir(at); at = filepath.Dir(at) {
		target, err := os.Readlink(at)
		if err != nil || links >= maxLinks {
			continue
		}
		t.add(at)
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		rest, err := filepath.Rel(at, path)
		if err != nil {
			continue
		}
		t.follow(filepath.Join(target, rest), links+1)
		return
	}
}

// add notes that path matters in its folder.
func (t trail) add(path string) {
	folder := realPath(filepath.Dir(path))
	names, ok := t[folder]
	if ok && names == nil {
		return
	}
	if names == nil {
		names = map[string]bool{}
		t[folder] = names
	}
	names[filepath.Base(path)] = true
}

// realPath returns the path without symlinks, so that no folder is watched under two names.
func realPath(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}

// concerns reports whether something that happened to path matters.
func (t trail) concerns(path string) bool {
	if _, ok := t[path]; ok {
		return true // a folder itself
	}
	names, ok := t[filepath.Dir(path)]
	return ok && (names == nil || names[filepath.Base(path)])
}
