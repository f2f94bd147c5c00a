package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
)

// Agent is what the API needs of an agent. Its methods are called concurrently.
type Agent interface {
	Ready() error // nil, or what the agent waits for
	Snapshot() *view.Snapshot
	Policies() *policy.Set    // nil before there are any
	Last(n int) []view.Record // the newest records, oldest first; not to be changed
	Follow(n, buffer int) ([]view.Record, *history.Follower, error)
	Override(Target, Order) Overridden
	Trace(Target) (Tracer, error)
}

// Order is an Override that was found to make sense.
type Order struct {
	Action string
	For    time.Duration // 0: until it is taken back
	By     string
	Reason string
}

// Tracer hands out outcomes as they happen.
type Tracer interface {
	Lines() <-chan TraceLine
	Missed() uint64 // since it was asked last
	Close()
}

// SortChanges sorts by policy and backend.
func SortChanges(all []Change) {
	slices.SortFunc(all, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Backend, y.Backend))
	})
}
