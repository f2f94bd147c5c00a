package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cbagent/cbagent/internal/history"
)

// openHistory opens the history where the configuration says. Where it cannot be kept, such as on a read-only file system,
// the agent goes on with one in memory.
func openHistory(cfg Config) *history.History {
	err := os.MkdirAll(filepath.Dir(cfg.History), 0o755)
	if err == nil || cfg.History == "" {
		var h *history.History
		if h, err = history.Open(cfg.History, cfg.Logger); err == nil {
			return h
		}
	}
	cfg.Logger.Error("events are not kept over a restart", "error", fmt.Errorf("%s: %w", cfg.History, err))
	h, _ := history.Open("", cfg.Logger) // cannot fail without a file
	return h
}
