package discovery

import "time"

// Update holds the changes since the one before. Policies that are not in it are unchanged.
type Update struct {
	Sets  []Set     // in file order
	Since time.Time // when the oldest event in it was seen
}

// Set is the complete new set of one policy's backends.
type Set struct {
	Policy   string
	Backends []Backend // sorted by address, each address once; not to be changed

	// Complete is false until every source of the policy has answered once. Until then a missing backend may not be known
	// yet, and the state of an earlier agent for it should stay in the kernel.
	Complete bool

	// Err joins the present errors of the policy's sources; nil when all of them are up to date.
	Err error
}

// SourceStatus is the state of one source.
type SourceStatus struct {
	Kind     string   // host, service or configmap
	Name     string   // the host name, or NAMESPACE/NAME
	Policies []string // that use it, in file order
	Answers  int      // addresses or endpoints in use, all ports

	Answered    bool      // at least one answer has come
	Stale       bool      // the last attempt failed and an older answer is in use
	LastSuccess time.Time // of a watch: when it began
	LastFailure time.Time
	LastError   string    // of the last attempt; empty when it succeeded
	Next        time.Time // hosts: the next lookup
	Successes   uint64    // lookups answered, watches begun
	Failures    uint64
}
