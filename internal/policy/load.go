package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFileSize in bytes; a ConfigMap holds at most 1 MiB.
const maxFileSize = 16 << 20

// Source is the content of a policy file.
type Source struct {
	Name string // for messages
	Data []byte
}

// Load reads the policies in path: a file, or all *.yaml of a directory, in the order of their names. Any error is an
// Errors with everything that is wrong.
func Load(path string) (*Set, error) {
	sources, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, sources)
}

// parse reads what was found in path.
func parse(path string, sources []Source) (*Set, error) {
	set, err := ParseAll(sources)
	if err == nil && len(sources) == 0 {
		set.Warnings = append(set.Warnings, &Error{Position: Position{File: path}, Message: "has no *.yaml: no policies"})
	}
	return set, err
}

// Parse reads one policy file; name is for messages. Any error is an Errors with everything that is wrong.
func Parse(name string, data []byte) (*Set, error) {
	return ParseAll([]Source{{Name: name, Data: data}})
}

// ParseAll reads policy files that are in force together. Any error is an Errors with everything that is wrong.
func ParseAll(sources []Source) (*Set, error) {
	var errs, warnings Errors
	var policies []*scoped
	for _, source := range sources {
		d := &decoder{file: source.Name}
		policies = append(policies, d.document(source.Data)...)
		errs = append(errs, d.errs...)
		warnings = append(warnings, d.warnings...)
	}
	errs = append(errs, conflicts(policies)...)
	if len(errs) > 0 {
		return nil, errs.arrange()
	}
	set := &Set{Policies: make([]*Policy, len(policies)), Warnings: warnings.arrange()}
	for i, p := range policies {
		set.Policies[i] = p.Policy
	}
	return set, nil
}

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
	var version, defaults, list *yaml.Node
	for _, e := range d.entries(root, "") {
		switch e.key {
		case "version":
			version = e.node
		case "defaults":
			defaults = e.node
		case "policies":
			list = e.node
		default:
			d.fail(e.name, e.key, "unknown key; %s", suggest(e.key, []string{"version", "defaults", "policies"}))
		}
	}
	top := newScope(d, "", root)
	if version != nil {
		f, _ := reflect.TypeFor[File]().FieldByName("Version")
		v := reflect.New(f.Type).Elem()
		top.value(version, v, v, "version", f.Tag)
	}
	var keys Keys
	fillDefaults(reflect.ValueOf(&keys).Elem())
	builtin := keys
	base := newScope(d, "defaults", root)
	if defaults != nil {
		if target := d.follow(defaults); target != nil && !isNull(target) {
			base.whole = defaults
			base.structure(defaults, reflect.ValueOf(&keys).Elem(), reflect.ValueOf(&builtin).Elem(), "")
		}
	}
	if list == nil {
		if len(d.errs) == 0 {
			d.fail(root, "policies", "is required; [] means none")
		}
		return nil
	}
	var all []*scoped
	for i, item := range top.items(list, "policies") {
		s := base.under(fmt.Sprintf("policies[%d]", i), item)
		spec := Spec{Keys: keys}
		reset := Spec{Keys: builtin}
		s.structure(item, reflect.ValueOf(&spec).Elem(), reflect.ValueOf(&reset).Elem(), "")
		p := s.resolve(&spec)
		if len(d.errs) == 0 {
			s.suspect(&spec, p)
		}
		all = append(all, &scoped{p, s})
	}
	return all
}

// root returns the top of the only document in data.
func (d *decoder) root(data []byte) *yaml.Node {
	if len(data) > maxFileSize {
		d.fail(&yaml.Node{}, "", "must be at most %d bytes, got %d", maxFileSize, len(data))
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

// read returns the policy files in path.
func read(path string) ([]Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		source, err := readFile(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		return []Source{source}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var sources []Source
	var errs Errors
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || filepath.Ext(name) != ".yaml" {
			continue
		}
		source, err := readFile(name)
		if err != nil {
			errs = append(errs, unreadable(name, err)...)
			continue
		}
		sources = append(sources, source)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	slices.SortFunc(sources, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	return sources, nil
}

func readFile(path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, err
	}
	if !info.Mode().IsRegular() && !isStream(info.Mode()) {
		return Source{}, fmt.Errorf("not a file, but %s", info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	return Source{Name: path, Data: data}, err
}

// isStream reports whether a file is a pipe: what a shell makes of <(...).
func isStream(mode fs.FileMode) bool { return mode&fs.ModeNamedPipe != 0 }

func unreadable(path string, err error) Errors {
	message := err.Error()
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		message = pathError.Err.Error()
	}
	return Errors{{Position: Position{File: path}, Message: message, Cause: err}}
}
