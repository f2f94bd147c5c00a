package testserver

import "sync/atomic"

// Counts are the counts of a server since it was created. A request is counted when its behaviour is decided, an outcome
// just before its first byte is sent: a client that has received an outcome finds it counted.
type Counts struct {
	Connections   uint64         // accepted, those reset at once included
	AcceptResets  uint64         // connections reset at once
	Requests      uint64         // heads received
	ByStatus      map[int]uint64 // final answers
	Hung          uint64         // EndHang
	Resets        uint64         // EndReset
	MidHeadResets uint64         // EndResetMidHead
	Closes        uint64         // EndClose
	Abandoned     uint64         // the client went away during Delay
	BodyBytes     uint64         // of request bodies that were read
}

// Answered returns the number of final answers.
func (c Counts) Answered() uint64 {
	var n uint64
	for _, of := range c.ByStatus {
		n += of
	}
	return n
}

// Sub returns what happened since an earlier reading.
func (c Counts) Sub(earlier Counts) Counts {
	d := Counts{
		Connections:   c.Connections - earlier.Connections,
		AcceptResets:  c.AcceptResets - earlier.AcceptResets,
		Requests:      c.Requests - earlier.Requests,
		ByStatus:      map[int]uint64{},
		Hung:          c.Hung - earlier.Hung,
		Resets:        c.Resets - earlier.Resets,
		MidHeadResets: c.MidHeadResets - earlier.MidHeadResets,
		Closes:        c.Closes - earlier.Closes,
		Abandoned:     c.Abandoned - earlier.Abandoned,
		BodyBytes:     c.BodyBytes - earlier.BodyBytes,
	}
	for status, n := range c.ByStatus {
		if n -= earlier.ByStatus[status]; n > 0 {
			d.ByStatus[status] = n
		}
	}
	return d
}

// counters are the live form of Counts.
type counters struct {
	connections, acceptResets, requests            atomic.Uint64
	hung, resets, midHeadResets, closes, abandoned atomic.Uint64
	bodyBytes                                      atomic.Uint64
	byStatus                                       [1000]atomic.Uint64
}

func (c *counters) read() Counts {
	all := Counts{
		Connections:   c.connections.Load(),
		AcceptResets:  c.acceptResets.Load(),
		Requests:      c.requests.Load(),
		ByStatus:      map[int]uint64{},
		Hung:          c.hung.Load(),
		Resets:        c.resets.Load(),
		MidHeadResets: c.midHeadResets.Load(),
		Closes:        c.closes.Load(),
		Abandoned:     c.abandoned.Load(),
		BodyBytes:     c.bodyBytes.Load(),
	}
	for status := range c.byStatus {
		if n := c.byStatus[status].Load(); n > 0 {
			all.ByStatus[status] = n
		}
	}
	return all
}
