package discovery

import "time"

// Update is what has changed since the one before. Policies that are not in it are as they were.
type Update struct {
	Sets  []Set     // in file order
	Since time.Time // when the oldest event in it was seen
}

// Set is the whole new set of one policy's backends.
type Set struct {
	Policy   string
	Backends []Backend // sorted by address, each address once; not to be changed

	// Complete is false until every source of the policy has answered once. Until then a backend that is missing may
	// just not be known yet, and what an earlier agent left in the kernel for it should stay.
	Complete bool

	// Err joins what is wrong with the policy's sources now; nil when all of them are fresh.
	Err error
}

// SourceStatus tells how one source does.
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
