package agentproc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// places are the paths of an agent's files. Agents in different network namespaces share the file system: each gets a
// directory of its own, unless the caller of Start sets the paths.
type places struct {
	dir   string // empty: the caller has set all
	flags []string
}

func ownPlaces(command []string) (places, error) {
	var p places
	names := map[string]string{"--control-socket": "cbagent.sock", "--state-dir": ""}
	if slices.Contains(command, "--bpffs") {
		delete(names, "--state-dir") // the next agent uses the files of this one
	}
	for flag, name := range names {
		if slices.Contains(command, flag) {
			continue
		}
		if p.dir == "" {
			var err error
			if p.dir, err = os.MkdirTemp("", "cbagent-"); err != nil {
				return p, fmt.Errorf("start the agent: %w", err)
			}
		}
		p.flags = append(p.flags, flag, filepath.Join(p.dir, name))
	}
	return p, nil
}

func (p places) remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// ControlSocket returns the path of the agent's control socket, empty when the caller of Start has set it.
func (p *Process) ControlSocket() string {
	if i := slices.Index(p.places.flags, "--control-socket"); i >= 0 {
		return p.places.flags[i+1]
	}
	return ""
}
