package ifaces

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Spec holds the operator's settings.
type Spec struct {
	// Attach are names and globs (path.Match) of interfaces, or "auto" alone or among them.
	Attach []string

	// Uplinks are names and globs of the interfaces that lead to other nodes. Empty: those with a default route, and
	// tunnels.
	Uplinks []string
}

// Auto is the word in Spec.Attach for the choice by Select.
const Auto = "auto"

// maxName is the longest interface name that the kernel accepts (IFNAMSIZ less the NUL).
const maxName = 15

// Validate returns all errors of the spec.
func (s Spec) Validate() error {
	var errs []error
	if len(s.Attach) == 0 {
		errs = append(errs, errors.New("interface: none given, want names, globs such as veth*, or auto"))
	}
	for _, p := range s.Attach {
		errs = append(errs, validPattern("interface", p))
	}
	for _, p := range s.Uplinks {
		if p == Auto {
			errs = append(errs, errors.New("uplink auto: leave the option out instead"))
			continue
		}
		errs = append(errs, validPattern("uplink", p))
	}
	return errors.Join(errs...)
}

func validPattern(what, p string) error {
	switch _, err := path.Match(p, ""); {
	case err != nil:
		return fmt.Errorf("%s %q: not a name or glob: %w", what, p, err)
	case p == "" || strings.ContainsAny(p, "/ \t\n"):
		return fmt.Errorf("%s %q: not a name or glob: an interface name is not empty and has no slash or space", what, p)
	case !isGlob(p) && len(p) > maxName:
		return fmt.Errorf("%s %q: an interface name has at most %d characters", what, p, maxName)
	}
	return nil
}

func isGlob(p string) bool { return strings.ContainsAny(p, `*?[\`) }

// matchAny returns the first pattern that matches name.
func matchAny(patterns []string, name string) (string, bool) {
	for _, p := range patterns {
		if p == Auto {
			continue
		}
		if ok, err := path.Match(p, name); ok && err == nil {
			return p, true
		}
	}
	return "", false
}
