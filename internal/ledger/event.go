package ledger

import (
	"net/netip"
	"time"
)

// EventKind is the kind of an event.
type EventKind uint8

// Kinds of events.
const (
	EventOutcome EventKind = iota
	EventProbe             // a half-open permit was taken
	EventReturn            // a half-open permit was returned unused
	EventLearn             // a connection to an unknown backend of a CIDR
	EventSweep             // a sweep would end streams now
	EventKinds             // length
)

// Event is what the programs report through the ring. Times are in ns of the kernel's monotonic clock.
type Event struct {
	Kind       EventKind
	Judged     bool // it is among Progress.Judged
	Failure    bool
	Slow       bool
	Permit     bool // a half-open permit was held
	Inbound    bool // EventLearn: the client is not on this node
	Result     uint16
	Circuit    int // index in the kernel's table; EventLearn, EventSweep: -1
	Generation uint32
	At         int64          // when it ended
	Began      int64          // when the request or the SYN was admitted
	Sent       int64          // when its last byte was sent: the latency counts from there
	Ordinal    uint64         // judged outcomes of the verdict before this one
	Index      uint64         // events of the verdict before this one; a gap is events that are late or lost
	Duration   time.Duration  // Progress.Duration, this outcome included
	Client     netip.AddrPort // zero: an attempt that no hook saw
	Backend    netip.AddrPort
}
