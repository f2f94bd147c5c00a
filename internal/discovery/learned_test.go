package discovery

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestLearnedEvictsLongestIdle(t *testing.T) {
	l, err := NewLearned(2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := addr("10.8.0.1:80"), addr("10.8.0.2:80"), addr("10.8.0.3:80")
	l.Learn(a, 1)
	l.Learn(b, 2)
	l.Touch(a, 3)
	if in, out := l.Learn(c, 4); !in || out != b {
		t.Fatalf("learned %v, evicted %v; want true and %v", in, out, b)
	}
	if !l.Has(a) || l.Has(b) || !l.Has(c) || l.Len() != 2 {
		t.Fatalf("a, b, c in the set: %v %v %v of %d", l.Has(a), l.Has(b), l.Has(c), l.Len())
	}
	if got, want := l.Counters(), (LearnedCounters{Learned: 3, Evicted: 1}); got != want {
		t.Fatalf("counters %+v, want %+v", got, want)
	}
}

func TestLearnedKeepsHeld(t *testing.T) {
	l, err := NewLearned(2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := addr("10.8.0.1:80"), addr("10.8.0.2:80"), addr("10.8.0.3:80")
	l.Learn(a, 0)
	l.Hold(a, true, 0)
	l.Learn(b, 0)
	if in, out := l.Learn(c, 1); !in || out != b {
		t.Fatalf("with the older one held: learned %v, evicted %v; want true and %v", in, out, b)
	}
	l.Hold(c, true, 1)
	if in, out := l.Learn(b, 2); in || out.IsValid() {
		t.Fatalf("with all held: learned %v, evicted %v; want neither", in, out)
	}
	if gone := l.Age(time.Hour); len(gone) != 0 {
		t.Fatalf("held ones aged: %v", gone)
	}
	l.Hold(a, false, time.Hour)
	if gone := l.Age(time.Hour + time.Minute - 1); len(gone) != 0 {
		t.Fatalf("aged too early after the hold: %v", gone)
	}
	if gone := l.Age(time.Hour + time.Minute); !slices.Equal(gone, []netip.AddrPort{a}) {
		t.Fatalf("aged %v, want %v", gone, a)
	}
	l.Forget(c)
	if l.Len() != 0 {
		t.Fatalf("%d left", l.Len())
	}
	if got, want := l.Counters(), (LearnedCounters{Learned: 3, Evicted: 1, Rejected: 1, Aged: 1}); got != want {
		t.Fatalf("counters %+v, want %+v", got, want)
	}
}

func TestLearnedAgesInOrder(t *testing.T) {
	l, err := NewLearned(10, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := addr("10.8.0.1:80"), addr("[::ffff:10.8.0.2]:80"), addr("[2001:db8::3]:80")
	for i, x := range []netip.AddrPort{a, b, c} {
		l.Learn(x, time.Duration(i))
	}
	l.Touch(a, 10)
	want := []netip.AddrPort{addr("10.8.0.2:80"), c}
	if gone := l.Age(time.Minute + 2); !slices.Equal(gone, want) {
		t.Fatalf("aged %v, want %v", gone, want)
	}
	if !l.Has(a) || l.Len() != 1 {
		t.Fatalf("the one used last did not stay")
	}
}

func TestNewLearnedRefusesBadBounds(t *testing.T) {
	for _, bad := range []struct {
		max  int
		idle time.Duration
	}{{0, time.Minute}, {-1, time.Minute}, {1, 0}, {1, -1}} {
		if _, err := NewLearned(bad.max, bad.idle); err == nil {
			t.Errorf("NewLearned(%d, %v) gave no error", bad.max, bad.idle)
		}
	}
}
