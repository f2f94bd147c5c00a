package attach

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cbagent/cbagent/internal/cgroup"
)

// EarlyDatapath is the part of loader.Datapath that Early uses.
type EarlyDatapath interface {
	AttachConnect(cgroup string) error
	AttachLookup() error
}

// Early attaches the programs that do not belong to an interface: the connect programs to a cgroup, unless its path is
// empty, and the sk_lookup program to the network namespace of the calling thread, if lookup is true.
func Early(dp EarlyDatapath, connect string, lookup bool) error {
	if connect != "" {
		if err := dp.AttachConnect(connect); err != nil {
			return err
		}
	}
	if lookup {
		return dp.AttachLookup()
	}
	return nil
}

// PodsDatapath is the part of loader.Datapath that Pods uses.
type PodsDatapath interface {
	SetPodsCgroup(id uint64, level int)
}

// Pods makes the datapath distinguish the node's own checks of its pods from connections of pods.
func Pods(dp PodsDatapath, log *slog.Logger, pods cgroup.NodePods) error {
	if !pods.Known() {
		return nil
	}
	id, level, err := pods.Place()
	if err != nil {
		return err
	}
	dp.SetPodsCgroup(id, level)
	log.Info("found the cgroup of this node's pods", "cgroup", pods.Path(), "level", level)
	return nil
}

// entriesEvery is the interval at which Entries checks the interfaces.
const entriesEvery = 2 * time.Second

// EntryDatapath is the part of loader.Datapath that Entries uses.
type EntryDatapath interface {
	KeepNAT()
	RejectAtEntry(on bool) error
}

// Entries keeps up to date at which interfaces clients can be rejected as they enter, and whether lo accepts answers. Both
// take time and need no lock: only the event loop uses it.
type Entries struct {
	dp      EntryDatapath
	log     *slog.Logger
	reject  bool // at entry, if the rejection is certain
	next    int64
	trouble string // the last error that was logged
}

// NewEntries returns Entries. With reject false all clients are rejected where they leave the node.
func NewEntries(dp EntryDatapath, log *slog.Logger, reject bool) *Entries {
	return &Entries{dp: dp, log: log, reject: reject}
}

// Turn checks the interfaces when that is due. now is the kernel's monotonic time in ns.
func (e *Entries) Turn(now int64) {
	if now < e.next {
		return
	}
	e.next = now + int64(entriesEvery)
	e.dp.KeepNAT()
	err := e.dp.RejectAtEntry(e.reject)
	if text := fmt.Sprint(err); err != nil && text != e.trouble {
		e.log.Warn("some clients are rejected only where they leave the node", "error", err)
		e.trouble = text
	}
}
