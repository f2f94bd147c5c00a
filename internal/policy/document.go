package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// scoped is a policy with the places where it was written.
type scoped struct {
	*Policy
	*scope
}

// document reads a file. What it returns is only to be used if there were no errors.
func (d *decoder) document(data []byte) []*scoped {
	root := d.root(data)
	if root == nil {
		return nil
	}
	top := newScope(d, "", root)
	keys := map[string]*yaml.Node{}
	known := []string{"version", "defaults", "policies"}
	for _, e := range d.entries(root, "") {
		if !slices.Contains(known, e.key) {
			d.fail(e.name, e.key, "unknown key; %s", suggest(e.key, known))
		}
		keys[e.key] = e.node
	}
	if n := keys["version"]; n != nil {
		f, _ := reflect.TypeFor[File]().FieldByName("Version")
		v := reflect.New(f.Type).Elem()
		top.value(n, v, v, "version", f.Tag)
	}
	start := d.defaults(keys["defaults"], root)
	list := keys["policies"]
	if list == nil {
		if len(d.errs) == 0 {
			d.fail(root, "policies", "is required; [] means none")
		}
		return nil
	}
	top.mark("policies", list)
	var all []*scoped
	for i, item := range top.items(list, "policies") {
		if p := start.policy(fmt.Sprintf("policies[%d]", i), item); p != nil {
			all = append(all, p)
		}
	}
	return all
}

// start is what the policies of a file start from.
type start struct {
	*scope
	builtin Keys
	keys    Keys // with the file's defaults
}

// builtinKeys are the built-in defaults. Nothing in them may be changed in place.
var builtinKeys = sync.OnceValue(func() Keys {
	var keys Keys
	fillDefaults(reflect.ValueOf(&keys).Elem())
	return keys
})

// defaults reads the file's defaults; n may be nil.
func (d *decoder) defaults(n, root *yaml.Node) *start {
	st := &start{scope: newScope(d, "defaults", root), builtin: builtinKeys()}
	st.keys = st.builtin
	if n != nil {
		if target := d.follow(n); target != nil && !isNull(target) {
			st.structure(n, reflect.ValueOf(&st.keys).Elem(), reflect.ValueOf(&st.builtin).Elem(), "")
		}
	}
	return st
}

// policy reads one policy; nil when it is none at all.
func (st *start) policy(path string, n *yaml.Node) *scoped {
	s := st.under(path, n)
	if target := s.follow(n); target == nil || target.Kind != yaml.MappingNode {
		s.entries(n, path) // says so
		return nil
	}
	spec, reset := Spec{Keys: st.keys}, Spec{Keys: st.builtin}
	s.structure(n, reflect.ValueOf(&spec).Elem(), reflect.ValueOf(&reset).Elem(), "")
	p := s.resolve(&spec)
	if len(s.errs) == 0 {
		s.suspect(&spec, p)
		s.remarkable(p)
	}
	return &scoped{p, s}
}

// root returns the top of the only document in data.
func (d *decoder) root(data []byte) *yaml.Node {
	if len(data) > MaxFileSize {
		d.fail(&yaml.Node{}, "", "must be at most %d bytes, got %d", MaxFileSize, len(data))
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.syntax(err)
		return nil
	}
	var doc, more yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])):
		d.fail(&yaml.Node{}, "", "is empty; a file without policies says policies: []")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := loader.Load(&more); {
	case err == nil:
		d.fail(&more, "", "must be one YAML document; put each further one into a file of its own")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	return doc.Content[0]
}

// syntax reports what the YAML parser could not read.
func (d *decoder) syntax(err error) {
	at := &yaml.Node{}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	var load *yaml.LoadError
	if errors.As(err, &load) {
		at.Line, at.Column = load.Mark.Line, max(1, load.Mark.Column)
		message = load.Message
	}
	d.fail(at, "", "not YAML: %s", message)
}
