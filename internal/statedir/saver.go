package statedir

// Saver has the state saved when it has changed. The agent's lock protects it.
type Saver struct {
	*File
	build func() *State
	clock func() int64
	dirty bool // the file has not been given the state of now
	next  int64
}

// NewSaver returns a Saver of the states that build returns. clock is the kernel's monotonic time in ns.
func NewSaver(f *File, build func() *State, clock func() int64) *Saver {
	return &Saver{File: f, build: build, clock: clock}
}

// Changed says that the state is not what was saved last.
func (s *Saver) Changed() { s.dirty = true }

// Save has the state of now written and returns its number for Await.
func (s *Saver) Save() uint64 {
	if s.path == "" {
		return 0
	}
	s.dirty = false
	return s.Put(s.build())
}

// Turn saves the state if it has changed, for at most a twentieth of the time: with thousands of circuits verdicts would
// wait. now is the kernel's monotonic time in ns.
func (s *Saver) Turn(now int64) {
	s.LogTrouble()
	if !s.dirty || now < s.next || !s.Due() {
		return
	}
	s.Save()
	s.next = now + saveShare*(s.clock()-now)
}
