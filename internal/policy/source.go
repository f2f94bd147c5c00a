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
