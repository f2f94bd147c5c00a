package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/view"
)

// Agent is the part of an agent that the API uses. Its methods are called concurrently.
type Agent interface {
	Ready() error // nil, or what the agent waits for
	Snapshot() *view.Snapshot
	Policies() *policy.Set    // nil before there are any
	Last(n int) []view.Record // the newest records, oldest first; not to be changed
	Follow(n, buffer int) ([]view.Record, *history.Follower, error)
	Override(Target, Order) Overridden
	Trace(Target) (Tracer, error)
}

// Order is a valid Override.
type Order struct {
	Action string
	For    time.Duration // 0: until it is removed
	By     string
	Reason string
}

// Tracer provides outcomes as they happen.
type Tracer interface {
	Lines() <-chan TraceLine
	Missed() uint64 // since the last call
	Close()
}

// SortChanges sorts by policy and backend.
func SortChanges(all []Change) {
	slices.SortFunc(all, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Backend, y.Backend))
	})
}
