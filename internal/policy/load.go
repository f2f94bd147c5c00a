package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		d := newDecoder(source.Name)
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
