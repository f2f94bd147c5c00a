package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cbagent/cbagent/internal/history"
)

// openHistory opens the history where the configuration says. A directory that cannot be made or written is an error: who
// names one wants to find the records there.
func openHistory(cfg Config) (*history.History, error) {
	if cfg.History != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.History), 0o755); err != nil {
			return nil, fmt.Errorf("make the directory of the history: %w", err)
		}
	}
	return history.Open(cfg.History, cfg.Logger)
}
