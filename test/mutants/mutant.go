package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one fault.
type mutant struct {
	Name    string // what the fault is
	File    string // below the root of the tree
	Old     string // text that is in the file exactly once
	New     string // what stands there instead
	Package string // of the test: ./internal/...
	Test    string // the name of the test that must fail
}

// sound returns an error for every mutant that lacks something.
func sound(all []mutant) error {
	var errs []error
	names := map[string]bool{}
	for _, m := range all {
		switch {
		case m.Name == "" || m.File == "" || m.Old == "" || m.Package == "" || m.Test == "":
			errs = append(errs, fmt.Errorf("mutant %q lacks one of name, file, old, package and test", m.Name))
		case names[m.Name]:
			errs = append(errs, fmt.Errorf("two mutants are named %q", m.Name))
		case m.Old == m.New:
			errs = append(errs, fmt.Errorf("mutant %q changes nothing", m.Name))
		}
		names[m.Name] = true
	}
	return errors.Join(errs...)
}

// applicable returns an error for every mutant that cannot be made in a tree.
func applicable(tree string, all []mutant) error {
	var errs []error
	for _, m := range all {
		if _, _, err := m.texts(tree); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}

// texts returns the file of a mutant as it is and with the fault.
func (m mutant) texts(tree string) (before, after []byte, err error) {
	before, err = os.ReadFile(filepath.Join(tree, m.File))
	if err != nil {
		return nil, nil, err
	}
	if n := strings.Count(string(before), m.Old); n != 1 {
		return nil, nil, fmt.Errorf("%s has this text %d times, it must be there once: %q", m.File, n, m.Old)
	}
	return before, bytes.Replace(before, []byte(m.Old), []byte(m.New), 1), nil
}
