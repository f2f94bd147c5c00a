package places

import "testing"

func TestSlots(t *testing.T) {
	var s slots
	s.reserve(map[int]bool{1: true, 3: true}, 100)
	s.give(9, 50)
	step := func(now int64, want int, ok bool) {
		t.Helper()
		if got, is := s.take(now, 6); is != ok || ok && got != want {
			t.Fatalf("at %d: got %d, %v; want %d, %v", now, got, is, want, ok)
		}
	}
	step(0, 0, true) // free
	step(0, 2, true)
	step(0, 4, true) // never used
	step(0, 5, true)
	step(0, 0, false) // no more than six
	step(50, 9, true) // given back, but not before
	step(99, 0, false)
	s.give(7, 90) // later, and free earlier
	step(99, 7, true)
	step(100, 1, true)
	step(100, 3, true)
	step(1000, 0, false)
}

func TestSlotsInUseForEver(t *testing.T) {
	var s slots
	s.reserve(map[int]bool{0: true, 2: true}, never)
	for _, want := range []int{1, 3, 4} {
		if got, ok := s.take(1<<62, 100); !ok || got != want {
			t.Errorf("got %d, %v; want %d", got, ok, want)
		}
	}
}
