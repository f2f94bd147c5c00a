package statedir

// Saver saves the state when it has changed. The agent's lock protects it.
type Saver struct {
	*File
	build func() *State
	clock func() int64
	dirty bool // the present state has not been submitted
	next  int64
}

// NewSaver returns a Saver of the states that build returns. clock is the kernel's monotonic time in ns.
func NewSaver(f *File, build func() *State, clock func() int64) *Saver {
	return &Saver{File: f, build: build, clock: clock}
}

// Changed notes that the state has changed since it was saved.
func (s *Saver) Changed() { s.dirty = true }

// Save submits the present state for writing and returns its number for Await.
func (s *Saver) Save() uint64 {
	if s.path == "" {
		return 0
	}
	s.dirty = false
	return s.Put(s.build())
}

// Turn saves the state if it has changed, for at most a twentieth of the time: with thousands of circuits it would delay
// verdicts. now is the kernel's monotonic time in ns.
func (s *Saver) Turn(now int64) {
	s.LogTrouble()
	if !s.dirty || now < s.next || !s.Due() {
		return
	}
	s.Save()
	s.next = now + saveShare*(s.clock()-now)
}
