package breaker

// Override is a mode that a source imposed on one circuit.
type Override struct {
	Source Source
	Mode   Mode
	Since  Time
	Until  Time // Never: until it is removed
	Who    string
	Why    string
}

// Probes are the counts of a half-open period without ramp.
type Probes struct {
	Used     int // permits taken and not returned, at most HalfOpen.Calls
	InFlight int // of these, not finished and not timed out, at most HalfOpen.Concurrent
	Finished int // of these, judged or timed out
	Bad      int // of these, failed, slow or timed out
}

// Status is the state of a circuit.
type Status struct {
	State      State
	Mode       Mode // in force: the override's, else the policy's
	Generation uint32
	Step       int
	Since      Time // of the last transition, or of the circuit's first moment
	Until      Time // end of an opening, a ramp or an override that forces a state; Never otherwise
	Probes     Probes
	Openings   uint64   // closed or half-open to open, since the circuit was added
	Overflows  uint64   // trips that the ejection limits did not allow
	Override   Override // the one in force; valid if Overridden
	Overridden bool
	Yielded    bool // half-open, and it does not count as ejected: no probe was admitted for long
}

// Snapshot is the part of a circuit's state that must survive a restart of the process. Its window and the permits of a
// half-open period do not: Group.Restore starts that period again in the next generation. All times are of the clock that
// the Group is given.
type Snapshot struct {
	State       State
	Generation  uint32
	Step        int
	Since       Time
	Until       Time
	Ejected     uint64 // order of the ejection among those of the group, 0 = not ejected by outcome
	Openings    uint64
	Overflows   uint64
	Overridden  bool
	Override    Override
	DecayPeriod int64 // full open.durations spent closed that have been counted
	DecaySeen   bool  // a success was seen in the one that runs
	Yielded     bool  // half-open, and it does not count as ejected
}
