// Package places allocates places in the kernel's tables: of circuits, policies and answers. A place is used again only
// when no program and no connection can still refer to its former content.
package places

import (
	"maps"
	"math"
	"slices"
	"time"
)

// slots allocates small numbers. It takes the number that has been free the longest first.
type slots struct {
	next int
	free []slot
}

type slot struct {
	id   int
	from int64 // not to be taken before this moment
}

// never is a moment after all others.
const never = math.MaxInt64

// rest is how long a released place stays free before it is used again: programs that read it when it is released end
// within microseconds.
const rest = int64(time.Second)

// reserve reserves numbers that are in use until the given moment.
func (s *slots) reserve(used map[int]bool, until int64) {
	for id := range used {
		s.next = max(s.next, id+1)
	}
	for id := range s.next {
		if !used[id] {
			s.give(id, 0)
		}
	}
	if until == never {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		s.give(id, until)
	}
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

// give frees a number, which is not taken before the given moment.
func (s *slots) give(id int, from int64) {
	at := len(s.free)
	for at > 0 && s.free[at-1].from > from {
		at--
	}
	s.free = slices.Insert(s.free, at, slot{id, from})
}
