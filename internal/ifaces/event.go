package ifaces

import "fmt"

// Pick is the decision on one link.
type Pick struct {
	Link   Link
	Attach bool   // attach the datapath to it
	Uplink bool   // packets that enter through it come from elsewhere; also true of some that are not attached
	Reason string // why it is attached or not, in words
}

// Op is the kind of an Event.
type Op uint8

// Ops.
const (
	Added   Op = iota // a link to attach to, or an uplink, is there
	Removed           // it is gone, or is neither any more; Pick is its last state
	Renamed           // the same link has another name; its attachment goes on
	Changed           // the same link and name: Attach, Uplink, Reason or a property of Link is new
	Synced            // all links that exist at the start, or again after lost notifications, have been reported
	ops               // length
)

var opNames = [ops]string{"added", "removed", "renamed", "changed", "synced"}

// String returns the op in a word.
func (o Op) String() string {
	if o < ops {
		return opNames[o]
	}
	return fmt.Sprintf("op-%d", uint8(o))
}

// Event is one change of the decision. Only picks that are Attach or Uplink have events.
type Event struct {
	Op   Op
	Pick Pick // zero for Synced
	Old  Pick // of Renamed and Changed: the former state
}
