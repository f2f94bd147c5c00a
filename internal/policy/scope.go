package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// scope is one policy, or the defaults, while they are decoded.
type scope struct {
	*decoder
	prefix string           // policies[2] or defaults
	places map[string]place // by path within the policy: where its value came from
	bad    map[string]bool  // paths whose value is not to be relied on
	whole  *yaml.Node       // the policy itself
	self   map[string]bool  // paths that this scope itself gives
	trips  int              // trippers read so far

	entryOf map[string][]int // for each list of match, the entries that its targets came from
}

func newScope(d *decoder, prefix string, whole *yaml.Node) *scope {
	return &scope{
		decoder: d, prefix: prefix, whole: whole,
		places: map[string]place{}, bad: map[string]bool{}, self: map[string]bool{}, entryOf: map[string][]int{},
	}
}

// under returns the scope of a policy that starts from what s has read.
func (s *scope) under(prefix string, whole *yaml.Node) *scope {
	return &scope{
		decoder: s.decoder, prefix: prefix, whole: whole,
		places: maps.Clone(s.places), bad: maps.Clone(s.bad), self: map[string]bool{},
		entryOf: map[string][]int{},
	}
}

// place is where a value was written.
type place struct {
	node *yaml.Node
	path string // whole
}

// given reports whether the file says something at path, be it in the policy or in defaults.
func (s *scope) given(path string) bool {
	_, ok := s.places[path]
	return ok
}

// sound reports whether none of the paths has had an error.
func (s *scope) sound(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool { return s.bad[path] })
}

// at returns the place of path or, when nothing is written there, of what is around it.
func (s *scope) at(path string) place {
	full := join(s.prefix, path)
	for around := path; around != ""; around = around[:max(0, strings.LastIndexAny(around, ".["))] {
		if p, ok := s.places[around]; ok {
			if around == path {
				full = p.path
			}
			return place{p.node, full}
		}
	}
	return place{s.whole, full}
}

// reject reports what is wrong at path.
func (s *scope) reject(path, format string, args ...any) {
	p := s.at(path)
	s.bad[path] = true
	s.fail(p.node, p.path, format, args...)
}

// warn reports what is suspicious at path.
func (s *scope) warn(path, format string, args ...any) {
	s.warnings = append(s.warnings, s.remark(path, format, args...))
}

// note reports what should be known of the value at path.
func (s *scope) note(path, format string, args ...any) {
	s.notes = append(s.notes, s.remark(path, format, args...))
}

func (s *scope) remark(path, format string, args ...any) *Error {
	p := s.at(path)
	return &Error{Position: s.position(p.node), Path: p.path, Message: fmt.Sprintf(format, args...)}
}

// inherited reports whether the value at path comes from defaults.
func (s *scope) inherited(path string) bool { return s.given(path) && !s.self[path] }

// mark notes where the value of path is written.
func (s *scope) mark(path string, n *yaml.Node) {
	s.places[path] = place{n, join(s.prefix, path)}
	s.self[path] = true
	delete(s.bad, path)
}

// forget makes path, and all within it, as if it had never been given.
func (s *scope) forget(path string) {
	for p := range s.places {
		if p == path || strings.HasPrefix(p, path) && strings.ContainsRune(".[", rune(p[len(path)])) {
			delete(s.places, p)
			delete(s.self, p)
			delete(s.bad, p)
		}
	}
}
