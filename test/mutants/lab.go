package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// lab is a copy of the tree in which mutants are made, one at a time.
type lab struct {
	tree    string
	verbose bool
}

// copyTree copies the files of the working tree, those that are not committed included, to a temporary folder.
func copyTree() (tree string, err error) {
	list, err := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return "", fmt.Errorf("git ls-files: %w", err)
	}
	if tree, err = os.MkdirTemp("", "cbagent-mutants-"); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if err = copyFile(name, filepath.Join(tree, name)); err != nil {
			return "", errors.Join(err, os.RemoveAll(tree))
		}
	}
	return tree, nil
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular():
		return nil // deleted in the working tree, or no file
	case err != nil:
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// sane checks that every named test is there and passes without a fault: a test that fails anyway proves nothing.
func (l *lab) sane(all []mutant) error {
	tests := map[string][]string{}
	for _, m := range all {
		if !slices.Contains(tests[m.Package], m.Test) {
			tests[m.Package] = append(tests[m.Package], m.Test)
		}
	}
	for pkg, names := range tests {
		failed, out, err := l.test(pkg, strings.Join(names, "|"))
		if err != nil {
			return fmt.Errorf("without a fault: %w", err)
		}
		if failed {
			return fmt.Errorf("without a fault tests of %s fail:\n%s", pkg, out)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?m)^--- PASS: ` + name + ` `).MatchString(out) {
				return fmt.Errorf("%s of %s does not exist, or is skipped", name, pkg)
			}
		}
	}
	return nil
}

// try makes a mutant, runs its test and takes the fault out again. killed: the test has failed.
func (l *lab) try(m mutant) (killed bool, err error) {
	before, after, err := m.texts(l.tree)
	if err != nil {
		return false, err
	}
	if err := l.put(m.File, after); err != nil {
		return false, err
	}
	killed, _, err = l.test(m.Package, m.Test)
	return killed, errors.Join(err, l.put(m.File, before))
}

// put writes a file of the tree, and the BPF objects if it is part of them.
func (l *lab) put(file string, text []byte) error {
	if err := os.WriteFile(filepath.Join(l.tree, file), text, 0o644); err != nil {
		return err
	}
	if !strings.HasPrefix(file, "bpf/") {
		return nil
	}
	if out, err := l.command("go", "generate", "./internal/loader"); err != nil {
		return fmt.Errorf("go generate ./internal/loader: %w\n%s", err, out)
	}
	return nil
}

// test runs tests of a package. An error is anything but a test that passes or fails: with a fault that does not compile,
// or that the kernel does not load, no test has noticed anything.
func (l *lab) test(pkg, tests string) (failed bool, out string, err error) {
	out, err = l.command("go", "test", "-count=1", "-timeout=5m", "-v", "-run", "^("+tests+")$", pkg)
	if l.verbose {
		fmt.Print(out)
	}
	switch {
	case err == nil:
		return false, out, nil
	case regexp.MustCompile(`(?m)^--- FAIL: |^panic: `).MatchString(out):
		return true, out, nil
	}
	return false, out, fmt.Errorf("no test of %s has run: %w\n%s", pkg, err, out)
}

func (l *lab) command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = l.tree
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
