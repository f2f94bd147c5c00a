package agentproc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// places are where an agent puts its files. Agents in different network namespaces share the file system: each gets a
// directory of its own, unless the client says where.
type places struct {
	dir   string // empty: the client said all
	flags []string
}

func ownPlaces(command []string) (places, error) {
	var p places
	names := map[string]string{"--control-socket": "cbagent.sock", "--state-dir": ""}
	if slices.Contains(command, "--bpffs") {
		delete(names, "--state-dir") // what outlives one agent is for the next
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

// ControlSocket returns where the agent's control socket is, empty when the client of Start said where.
func (p *Process) ControlSocket() string {
	if i := slices.Index(p.places.flags, "--control-socket"); i >= 0 {
		return p.places.flags[i+1]
	}
	return ""
}
