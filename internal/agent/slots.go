package agent

// slots hands out small numbers, those least recently given back last, so that what still refers to one by a former
// meaning has time to end.
type slots struct {
	next int
	free []slot
}

type slot struct {
	id   int
	from int64 // not before this moment
}

// take returns a number that is free at now, at most limit-1.
func (s *slots) take(now int64, limit int) (int, bool) {
	if len(s.free) > 0 && (s.free[0].from <= now) {
		id := s.free[0].id
		s.free = s.free[1:]
		return id, true
	}
	if s.next < limit {
		s.next++
		return s.next - 1, true
	}
	return 0, false
}

func (s *slots) give(id int, from int64) { s.free = append(s.free, slot{id, from}) }
