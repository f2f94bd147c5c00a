package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// markPrefix begins the name of a directory among the pins that records a changed setting of lo. The directory outlives the
// maps: their layout may be another one under the next agent.
const markPrefix = "lo-"

func markName(s inetSetting) string { return markPrefix + s.String() }

func (p *pins) markPath(s inetSetting) string { return filepath.Join(p.path, markName(s)) }

func isMark(name string) bool {
	return slices.ContainsFunc(answerSettings, func(s inetSetting) bool { return name == markName(s) })
}

// mark records that a setting is to be restored.
func (p *pins) mark(s inetSetting) error {
	if p == nil {
		return nil
	}
	if err := os.Mkdir(p.markPath(s), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note that %s of lo is changed: %w", s, err)
	}
	return nil
}

// unmark removes the mark of a setting that is restored.
func (p *pins) unmark(s inetSetting) error {
	if p == nil {
		return nil
	}
	if err := os.Remove(p.markPath(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note that %s of lo is restored: %w", s, err)
	}
	return nil
}

// marks returns the settings that are to be restored.
func (p *pins) marks() map[inetSetting]bool {
	all := map[inetSetting]bool{}
	if p == nil {
		return all
	}
	for _, s := range answerSettings {
		if _, err := os.Stat(p.markPath(s)); err == nil {
			all[s] = true
		}
	}
	return all
}

// unmarkAll removes all marks, if the network namespace of lo is gone.
func (p *pins) unmarkAll() error {
	var errs []error
	for s := range p.marks() {
		errs = append(errs, p.unmark(s))
	}
	return errors.Join(errs...)
}
