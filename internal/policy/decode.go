package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds the work that aliases of aliases can ask for.
const maxNodes = 1_000_000

// decoder reads one file.
type decoder struct {
	file     string
	errs     Errors
	warnings Errors
	notes    Errors
	nodes    int // left
	tooMany  bool
}

func newDecoder(file string) *decoder { return &decoder{file: file, nodes: maxNodes} }

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, &Error{
		Position: d.position(n),
		Path:     path,
		Message:  fmt.Sprintf(format, args...),
	})
}

func (d *decoder) position(n *yaml.Node) Position {
	return Position{File: d.file, Line: n.Line, Column: n.Column}
}

// follow returns what n stands for, or nil when too many nodes were followed in this file.
func (d *decoder) follow(n *yaml.Node) *yaml.Node {
	if d.nodes == 0 {
		if !d.tooMany {
			d.tooMany = true
			d.fail(n, "", "has too many values; aliases of aliases?")
		}
		return nil
	}
	d.nodes--
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// entry is a key and a value of a mapping.
type entry struct {
	key        string
	name, node *yaml.Node
}

// entries returns the keys and values of a mapping. It reports anything else, and keys that are given twice.
func (d *decoder) entries(n *yaml.Node, path string) []entry {
	at := n
	if n = d.follow(n); n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.fail(at, path, "must be a map, got %s", describe(n))
		return nil
	}
	all := make([]entry, 0, len(n.Content)/2)
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i]
		key := d.follow(name)
		if key == nil {
			return nil
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fail(name, path, "a key must be a plain word, got %s", describe(key))
			continue
		case key.ShortTag() == "!!merge":
			d.fail(name, path, "merge keys are not supported; use defaults")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			d.fail(name, join(path, key.Value), "given twice, first in line %d", line)
			continue
		}
		seen[key.Value] = name.Line
		all = append(all, entry{key: key.Value, name: name, node: n.Content[i+1]})
	}
	return all
}

// Kinds of value that read themselves.
type nodeDecoder interface {
	// decodeNode reads n, which is not null, and reports what is wrong with it.
	decodeNode(s *scope, n *yaml.Node, path string)
}

// value reads n into v. reset is what null stands for, tag the field's.
func (s *scope) value(n *yaml.Node, v, reset reflect.Value, path string, tag reflect.StructTag) {
	at := n
	if n = s.follow(n); n == nil {
		return
	}
	if isNull(n) {
		s.forget(path)
		v.Set(reset)
		return
	}
	if v.Kind() == reflect.Pointer {
		s.pointer(at, v, path, tag)
		return
	}
	s.mark(path, at)
	if nd, ok := v.Addr().Interface().(nodeDecoder); ok {
		nd.decodeNode(s, at, path)
	} else {
		switch v.Kind() {
		case reflect.Struct:
			s.structure(at, v, reset, path)
			return
		case reflect.Slice:
			s.list(at, v, path)
		case reflect.Map:
			s.stringMap(at, v, path)
		default:
			s.scalar(n, v, path)
		}
	}
	if s.sound(path) {
		checkTags(s, v, path, tag)
	}
}

// pointer reads what may be absent: on top of what is there already, or of the built-in defaults of its type.
func (s *scope) pointer(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	builtin := reflect.New(v.Type().Elem())
	fillDefaults(builtin.Elem())
	fresh := reflect.New(v.Type().Elem())
	if v.IsNil() {
		fresh.Elem().Set(builtin.Elem())
	} else {
		fresh.Elem().Set(v.Elem())
	}
	v.Set(fresh)
	s.value(n, fresh.Elem(), builtin.Elem(), path, tag)
}

// structure reads the keys of a mapping into the fields of v.
func (s *scope) structure(n *yaml.Node, v, reset reflect.Value, path string) {
	known := fieldsOf(v.Type())
	for _, e := range s.entries(n, join(s.prefix, path)) {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == e.key })
		if i < 0 {
			keys := make([]string, len(known))
			for i, f := range known {
				keys[i] = f.key
			}
			s.fail(e.name, join(s.prefix, join(path, e.key)), "unknown key; %s", suggest(e.key, keys))
			continue
		}
		f := known[i]
		s.value(e.node, v.FieldByIndex(f.index), reset.FieldByIndex(f.index), join(path, f.key), f.tag)
	}
}

// list reads a sequence; what was in v before is gone.
func (s *scope) list(n *yaml.Node, v reflect.Value, path string) {
	s.forget(path)
	s.mark(path, n)
	v.SetZero()
	for i, item := range s.items(n, path) {
		at := fmt.Sprintf("%s[%d]", path, i)
		s.mark(at, item)
		target := s.follow(item)
		if target == nil {
			return
		}
		elem := reflect.New(v.Type().Elem())
		if nd, ok := elem.Interface().(nodeDecoder); ok {
			nd.decodeNode(s, item, at)
		} else {
			s.scalar(target, elem.Elem(), at)
		}
		v.Set(reflect.Append(v, elem.Elem()))
	}
}

// items returns the elements of a sequence. It reports anything else.
func (s *scope) items(n *yaml.Node, path string) []*yaml.Node {
	target := s.follow(n)
	if target == nil {
		return nil
	}
	if target.Kind != yaml.SequenceNode {
		s.reject(path, "must be a list, got %s", describe(target))
		return nil
	}
	return target.Content
}

// stringMap reads a mapping of strings key by key; null takes a key away.
func (s *scope) stringMap(n *yaml.Node, v reflect.Value, path string) {
	merged := make(map[string]string, v.Len())
	for _, key := range v.MapKeys() {
		merged[key.String()] = v.MapIndex(key).String()
	}
	for _, e := range s.entries(n, join(s.prefix, path)) {
		at := join(path, e.key)
		target := s.follow(e.node)
		if target == nil {
			return
		}
		if isNull(target) {
			s.forget(at)
			delete(merged, e.key)
			continue
		}
		s.mark(at, e.node)
		var value string
		s.scalar(target, reflect.ValueOf(&value).Elem(), at)
		merged[e.key] = value
	}
	v.Set(reflect.ValueOf(merged))
}

// scalar reads a string, number or boolean.
func (s *scope) scalar(n *yaml.Node, v reflect.Value, path string) {
	is := func(tags ...string) bool { return n.Kind == yaml.ScalarNode && slices.Contains(tags, n.ShortTag()) }
	switch v.Kind() {
	case reflect.String:
		if !is("!!str") {
			hint := ""
			if n.Kind == yaml.ScalarNode && !isNull(n) {
				hint = "; put it in quotes"
			}
			s.reject(path, "must be a string, got %s%s", describe(n), hint)
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if !is("!!bool") || n.Load(&b) != nil {
			s.reject(path, "must be true or false, got %s", describe(n))
			return
		}
		v.SetBool(b)
	case reflect.Int:
		var i int
		if !is("!!int") || n.Load(&i) != nil {
			s.reject(path, "must be a whole number, got %s", describe(n))
			return
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		var f float64
		if !is("!!int", "!!float") || n.Load(&f) != nil || f != f {
			s.reject(path, "must be a number, got %s", describe(n))
			return
		}
		v.SetFloat(f)
	default:
		panic("no rule to decode " + v.Type().String())
	}
}

// describe says what a node is, for messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	if isNull(n) {
		return "nothing"
	}
	value := n.Value
	if len(value) > 80 {
		value = value[:80] + "..."
	}
	if n.ShortTag() == "!!str" {
		return strconv.Quote(value)
	}
	return value
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// join puts a key behind a path.
func join(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}
