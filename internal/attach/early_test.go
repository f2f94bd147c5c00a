package attach

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/cgroup"
)

// earlyDatapath notes what it is asked for.
type earlyDatapath struct {
	calls []string
	err   error
}

func (d *earlyDatapath) AttachConnect(path string) error {
	d.calls = append(d.calls, "connect "+path)
	return d.err
}

func (d *earlyDatapath) AttachLookup() error {
	d.calls = append(d.calls, "lookup")
	return d.err
}

func (d *earlyDatapath) SetPodsCgroup(uint64, int) { d.calls = append(d.calls, "pods") }

func (d *earlyDatapath) KeepNAT() { d.calls = append(d.calls, "nat") }

func (d *earlyDatapath) RejectAtEntry(on bool) error {
	if on {
		d.calls = append(d.calls, "entry")
	} else {
		d.calls = append(d.calls, "no entry")
	}
	return d.err
}

func (d *earlyDatapath) want(t *testing.T, calls ...string) {
	t.Helper()
	if !slices.Equal(d.calls, calls) {
		t.Errorf("got %q, want %q", d.calls, calls)
	}
	d.calls = nil
}

func TestEarly(t *testing.T) {
	d := &earlyDatapath{}
	for _, tc := range []struct {
		connect string
		lookup  bool
		want    []string
	}{
		{"", false, nil},
		{"/sys/fs/cgroup", false, []string{"connect /sys/fs/cgroup"}},
		{"", true, []string{"lookup"}},
		{"/sys/fs/cgroup", true, []string{"connect /sys/fs/cgroup", "lookup"}},
	} {
		if err := Early(d, tc.connect, tc.lookup); err != nil {
			t.Error(err)
		}
		d.want(t, tc.want...)
	}
	d.err = errFake
	if err := Early(d, "/sys/fs/cgroup", true); !errors.Is(err, errFake) {
		t.Errorf("got %v, want %v", err, errFake)
	}
	d.want(t, "connect /sys/fs/cgroup")
}

func TestPods(t *testing.T) {
	d := &earlyDatapath{}
	log := slog.New(slog.DiscardHandler)
	if err := Pods(d, log, cgroup.NodePods{}); err != nil {
		t.Error(err)
	}
	d.want(t)
	if err := Pods(d, log, cgroup.NodePods{Root: t.TempDir(), Pods: "kubepods"}); err == nil {
		t.Error("pods that are not there are no error")
	}
	d.want(t)
}

// The interfaces are looked at every other second, and each trouble is logged once.
func TestEntries(t *testing.T) {
	const second = int64(1e9)
	var log bytes.Buffer
	d := &earlyDatapath{}
	e := NewEntries(d, logTo(&log), true)
	e.Turn(second)
	d.want(t, "nat", "entry")
	e.Turn(3*second - 1)
	d.want(t)
	d.err = errFake
	for now := 3 * second; now < 30*second; now += 2 * second {
		e.Turn(now)
		d.want(t, "nat", "entry")
	}
	if n := strings.Count(log.String(), errFake.Error()); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, &log)
	}
	off := NewEntries(d, slog.New(slog.DiscardHandler), false)
	off.Turn(second)
	d.want(t, "nat", "no entry")
}
