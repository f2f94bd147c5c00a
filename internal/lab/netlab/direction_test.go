package netlab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a direction whose frames are short texts, and what came out of it, when.
type wire struct {
	*Direction
	began time.Time
	out   []string
	at    []time.Duration
}

func newWire(seed uint64) *wire {
	w := &wire{began: time.Now()}
	w.Direction = newDirection(seed, 0, func(frame []byte) error {
		w.out = append(w.out, string(frame))
		w.at = append(w.at, time.Since(w.began))
		return nil
	})
	return w
}

// put has frames arrive, a text each.
func (w *wire) put(frames string) {
	for _, f := range strings.Fields(frames) {
		w.arrive([]byte(f))
	}
}

// want compares all that came out, in order.
func (w *wire) want(t *testing.T, frames string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.out, " "); got != frames {
		t.Errorf("got %s, want %s", got, frames)
	}
}

// wantCounts compares all counters.
func (w *wire) wantCounts(t *testing.T, want RelayCounts) {
	t.Helper()
	if got := w.Counts(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestDirectionCarriesFrames(t *testing.T) {
	w := newWire(1)
	w.put("a b c")
	w.want(t, "a b c")
	w.wantCounts(t, RelayCounts{Frames: 3, Carried: 3})
}

func TestHookDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(1)
		w.Set(Impairment{Loss: 1})
		w.SetHook(func(frame []byte) Fate {
			return map[string]Fate{
				"pass": {Pass: true}, "drop": {Drop: true}, "copy": {Copies: 2}, "late": {Delay: time.Millisecond},
			}[string(frame)]
		})
		w.put("late lost pass drop copy")
		w.want(t, "pass copy copy copy")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		w.want(t, "pass copy copy copy late")
		w.wantCounts(t, RelayCounts{Frames: 5, Carried: 5, Lost: 2, Duplicated: 2, Reordered: 1, Delayed: 1})
		w.SetHook(nil)
		w.put("pass")
		w.Set(Impairment{})
		w.put("z")
		w.Inject([]byte("injected"))
		w.want(t, "pass copy copy copy late z injected")
		w.wantCounts(t, RelayCounts{Frames: 7, Carried: 7, Lost: 3, Duplicated: 2, Reordered: 1, Delayed: 1, Injected: 1})
	})
}

func TestDelayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(1)
		w.Set(Impairment{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
		var want []string
		for n := range 100 {
			w.put(fmt.Sprint(n))
			want = append(want, fmt.Sprint(n))
			time.Sleep(time.Millisecond)
		}
		w.Set(Impairment{}) // what comes later does not overtake either
		w.put("last")
		time.Sleep(15 * time.Millisecond)
		synctest.Wait()
		w.want(t, strings.Join(append(want, "last"), " "))
		shortest, longest := time.Hour, time.Duration(0)
		for n, at := range w.at[:100] {
			took := at - time.Duration(n)*time.Millisecond
			shortest, longest = min(shortest, took), max(longest, took)
		}
		if shortest < 10*time.Millisecond || shortest > 11*time.Millisecond || longest < 14*time.Millisecond || longest > 15*time.Millisecond {
			t.Errorf("delays of %s to %s, want 10 to 15 ms", shortest, longest)
		}
		w.wantCounts(t, RelayCounts{Frames: 101, Carried: 101, Delayed: 100})
	})
}

func TestReorderedFramesAreOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, delay := range []time.Duration{0, time.Millisecond} {
			w := newWire(1)
			w.Set(Impairment{Reorder: 1, ReorderBy: 2, ReorderFor: 20 * time.Millisecond, Delay: delay})
			w.put("a")
			w.Set(Impairment{Delay: delay})
			w.put("b c d")
			time.Sleep(delay)
			synctest.Wait()
			w.want(t, "b c a d")
			if got := w.Counts(); got.Reordered != 1 || got.Carried != 4 {
				t.Errorf("counted %+v, want one reordered", got)
			}
		}
	})
}

// A held frame that nothing overtakes leaves all the same, and was not reordered.
func TestHeldFramesLeaveInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(1)
		w.Set(Impairment{Reorder: 1, ReorderFor: 20 * time.Millisecond})
		w.put("a b")
		time.Sleep(20*time.Millisecond - time.Nanosecond)
		synctest.Wait()
		w.want(t, "")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.want(t, "a b")
		w.wantCounts(t, RelayCounts{Frames: 2, Carried: 2})
	})
}

func TestRandomImpairmentIsAsOftenAsItSays(t *testing.T) {
	const frames = 20000
	synctest.Test(t, func(t *testing.T) {
		w := newWire(1)
		w.Set(Impairment{Loss: 0.1, Duplicate: 0.2, Reorder: 0.05})
		for n := range frames {
			w.put(fmt.Sprint(n))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got := w.Counts()
		for name, c := range map[string]struct{ got, want float64 }{
			"lost":       {float64(got.Lost), 0.1 * frames},
			"duplicated": {float64(got.Duplicated), 0.9 * 0.2 * frames},
			"reordered":  {float64(got.Reordered), 0.9 * 0.05 * frames},
			"carried":    {float64(got.Carried), float64(got.Frames - got.Lost + got.Duplicated)},
		} {
			if c.got < 0.9*c.want || c.got > 1.1*c.want {
				t.Errorf("%v were %s, want %v", c.got, name, c.want)
			}
		}
		if uint64(len(w.out)) != got.Carried {
			t.Errorf("%d came out, counted %d", len(w.out), got.Carried)
		}
		again, other := newWire(1), newWire(2)
		for _, x := range []*wire{again, other} {
			x.Set(Impairment{Loss: 0.1, Duplicate: 0.2, Reorder: 0.05})
			for n := range frames {
				x.put(fmt.Sprint(n))
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(w.out, again.out) || slices.Equal(w.out, other.out) {
			t.Error("what becomes of frames does not depend on the seed alone")
		}
	})
}

func TestClosedDirectionSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(1)
		w.Set(Impairment{Delay: time.Millisecond})
		w.put("a")
		w.close()
		time.Sleep(time.Second)
		synctest.Wait()
		w.put("b")
		w.Inject([]byte("c"))
		w.want(t, "")
		w.wantCounts(t, RelayCounts{Frames: 1, Delayed: 1})
	})
}

func TestFramesThatTheInterfaceDoesNotTake(t *testing.T) {
	d := newDirection(1, 0, func([]byte) error { return errors.New("no") })
	d.arrive([]byte("a"))
	if got, want := d.Counts(), (RelayCounts{Frames: 1, Failed: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}
