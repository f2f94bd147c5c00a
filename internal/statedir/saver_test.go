package statedir

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The state is saved when it has changed, once, and for a twentieth of the time at most.
func TestSaver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	built, took := 0, int64(0)
	now := int64(1000)
	s := NewSaver(NewFile(path, slog.New(slog.DiscardHandler)), func() *State {
		built++
		return state(strconv.Itoa(built))
	}, func() int64 { return now + took })
	turn := func(what string, want int) {
		t.Helper()
		for deadline := time.Now().Add(patience); !s.Due(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: nothing can be written", what)
			}
		}
		s.Turn(now)
		if built != want {
			t.Fatalf("%s: %d states, want %d", what, built, want)
		}
	}
	turn("nothing has changed", 0)
	s.Changed()
	took = 50
	turn("something has changed", 1)
	turn("nothing since", 1)
	s.Changed()
	now += saveShare*took - 1
	turn("too early", 1)
	now++
	turn("late enough", 2)
	s.Changed()
	if err := s.Await(s.Save(), patience); err != nil {
		t.Fatal(err)
	}
	now *= 1000
	turn("saved by itself", 3)
	wantSaved(t, path, "3")
}

func TestSaverWithoutFile(t *testing.T) {
	s := NewSaver(NewFile("", slog.New(slog.DiscardHandler)), func() *State {
		t.Error("a state is built for no file")
		return nil
	}, func() int64 { return 0 })
	s.Changed()
	s.Turn(1)
	if n := s.Save(); n != 0 {
		t.Errorf("the state has number %d", n)
	}
	if err := s.Await(0, patience); err != nil {
		t.Error(err)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	if got, err := s.Load(); err != nil || len(got.Standing) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	f := NewFile(path, slog.New(slog.DiscardHandler))
	if err := f.Await(f.Put(state("one")), patience); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
		if got, err := f.Load(); err != nil || len(got.Standing) != 0 {
			t.Errorf("got %+v, %v; want nothing", got, err)
		}
	}
}
