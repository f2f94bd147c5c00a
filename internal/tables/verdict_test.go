package tables

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
)

// inMemory returns tables of two circuits and two policies that no program sees.
func inMemory() *Tables {
	return &Tables{
		circuits: &shared[circuit]{vals: make([]circuit, 2)},
		policies: &shared[bpf.CPolicy]{vals: make([]bpf.CPolicy, 2)},
	}
}

// full is a verdict with a value in every field.
var full = ledger.Verdict{
	Kind: ledger.Open, Monitor: true, Override: true, Generation: 7, Until: 1000, Calls: 3, Concurrent: 2,
	RampOver: time.Minute, RampFrom: 0.25, RampTo: 0.75, Step: 4,
}

func TestSetVerdict(t *testing.T) {
	changed := func(f func(*ledger.Verdict)) ledger.Verdict {
		v := full
		f(&v)
		return v
	}
	for _, tc := range []struct {
		name string
		next ledger.Verdict
		anew bool
	}{
		{"the same", full, false},
		{"monitor", changed(func(v *ledger.Verdict) { v.Monitor = false }), false},
		{"override", changed(func(v *ledger.Verdict) { v.Override = false }), false},
		{"deadline", changed(func(v *ledger.Verdict) { v.Until = 2000 }), false},
		{"calls", changed(func(v *ledger.Verdict) { v.Calls = 9 }), false},
		{"concurrent", changed(func(v *ledger.Verdict) { v.Concurrent = 9 }), false},
		{"length of the ramp", changed(func(v *ledger.Verdict) { v.RampOver = time.Hour }), false},
		{"begin of the ramp", changed(func(v *ledger.Verdict) { v.RampFrom = 0.5 }), false},
		{"end of the ramp", changed(func(v *ledger.Verdict) { v.RampTo = 1 }), false},
		{"step", changed(func(v *ledger.Verdict) { v.Step = 5 }), false},
		{"no ramp", changed(func(v *ledger.Verdict) { v.RampOver, v.RampFrom, v.RampTo = 0, 0, 0 }), false},
		{"closed after it", ledger.Verdict{Kind: ledger.Closed, Generation: 8}, false},
		{"closed after it, in monitor", ledger.Verdict{Kind: ledger.Closed, Generation: 8, Monitor: true, Step: 1}, false},
		{"closed later", ledger.Verdict{Kind: ledger.Closed, Generation: 9}, true},
		{"opened again", changed(func(v *ledger.Verdict) { v.Generation = 8 }), true},
		{"forced open", ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 7, Until: 5000}, true},
		{"disabled", ledger.Verdict{Kind: ledger.Disabled, Generation: 8}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tables := inMemory()
			if !tables.SetVerdict(1, full) {
				t.Error("the counts of the first verdict do not begin at 0")
			}
			if diff := cmp.Diff(full, tables.Published(1)); diff != "" {
				t.Errorf("in force (-want +got):\n%s", diff)
			}
			s := tables.circuits.vals[1].slot()
			s.Judged, s.Failures, s.Permits = 2<<judgedBits|5, 3, 1<<32|4
			if anew := tables.SetVerdict(1, tc.next); anew != tc.anew {
				t.Errorf("counts begin at 0: %v, want %v", anew, tc.anew)
			}
			if diff := cmp.Diff(tc.next, tables.Published(1)); diff != "" {
				t.Errorf("in force (-want +got):\n%s", diff)
			}
			want := ledger.Progress{Judged: 5, Events: 2, Failures: 3, Permits: 4, InFlight: 1}
			if tc.anew {
				want = ledger.Progress{}
			}
			if diff := cmp.Diff(want, tables.Progress(1)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if other := tables.Published(0); other != (ledger.Verdict{}) {
				t.Errorf("another circuit has the verdict %+v", other)
			}
		})
	}
}
