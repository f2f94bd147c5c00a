package policy

import "reflect"

// Equal reports whether two policies say the same. Where they are written does not matter.
func Equal(a, b *Policy) bool {
	x, y := *a, *b
	x.Position, y.Position = Position{}, Position{}
	return reflect.DeepEqual(x, y)
}

// Changes are the names of policies, in file order, by what became of them.
type Changes struct {
	Added     []string
	Removed   []string // in the order of the old set
	Changed   []string
	Unchanged []string
}

// Diff compares two sets by name: a renamed policy is a new one. A nil set is empty.
func Diff(before, after *Set) Changes {
	var c Changes
	was, is := byName(before), byName(after)
	for _, name := range names(after) {
		switch p, existed := was[name]; {
		case !existed:
			c.Added = append(c.Added, name)
		case Equal(p, is[name]):
			c.Unchanged = append(c.Unchanged, name)
		default:
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range names(before) {
		if _, left := is[name]; !left {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}

func byName(s *Set) map[string]*Policy {
	m := map[string]*Policy{}
	if s != nil {
		for _, p := range s.Policies {
			m[p.Name] = p
		}
	}
	return m
}

func names(s *Set) []string {
	if s == nil {
		return nil
	}
	all := make([]string, len(s.Policies))
	for i, p := range s.Policies {
		all[i] = p.Name
	}
	return all
}
