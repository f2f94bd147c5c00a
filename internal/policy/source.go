package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxFileSize is how many bytes a policy file may have; a ConfigMap holds at most 1 MiB.
const MaxFileSize = 16 << 20

// Source is the content of a policy file.
type Source struct {
	Name string // for messages
	Data []byte
}

// read returns the policy files in path, in the order of their names, and what is wrong with those that cannot be read.
func read(path string) ([]Source, Errors) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filesIn(path); err != nil {
			return nil, unreadable(path, err)
		}
	}
	var sources []Source
	var errs Errors
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			errs = append(errs, unreadable(name, err)...)
			continue
		}
		sources = append(sources, Source{Name: name, Data: data})
	}
	return sources, errs
}

// filesIn returns the paths of a folder's *.yaml that are not hidden, sorted.
func filesIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	var names []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") && filepath.Ext(entry.Name()) == ".yaml" {
			names = append(names, filepath.Join(folder, entry.Name()))
		}
	}
	return names, err
}

// readFile reads a regular file. Opening or reading a FIFO waits for a writer, which would hold up all later reloads, and
// opening a device may do anything: neither is opened. What takes the file's place meanwhile is opened without blocking.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := regular(info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := regular(info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err == nil && len(data) > MaxFileSize {
		return nil, fmt.Errorf("is larger than %d MiB; no policy file may be", MaxFileSize>>20)
	}
	return data, err
}

// regular says what something is that is no regular file.
func regular(info fs.FileInfo) error {
	kind := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "FIFO"
	case mode&fs.ModeSocket != 0:
		kind = "socket"
	default:
		kind = "device"
	}
	return fmt.Errorf("is a %s; a policy file must be a regular file, or a link to one", kind)
}

func unreadable(path string, err error) Errors {
	message := err.Error()
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		message = pathError.Err.Error()
	}
	return Errors{{Position: Position{File: path}, Message: message, Cause: err}}
}
