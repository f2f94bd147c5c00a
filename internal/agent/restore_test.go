package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
)

// The kernel was told first: where the state file says otherwise, it is behind.
func TestReconcile(t *testing.T) {
	const now = 1000
	open := breaker.Snapshot{State: breaker.StateOpen, Generation: 4, Step: 2, Since: 500, Until: 1500, Ejected: 7, Openings: 3}
	idle := breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 5, Step: 2, Since: 600, Until: breaker.Never, Openings: 1, Yielded: true}
	forced := breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Overridden: true, Until: breaker.Never,
		Override: breaker.Override{Mode: breaker.ModeForcedOpen, Who: "root", Until: breaker.Never}}
	unknown := func(mode breaker.Mode, until breaker.Time) breaker.Override {
		return breaker.Override{Mode: mode, Since: now, Until: until, Who: "unknown", Why: "unknown (state file was not saved)"}
	}
	for name, c := range map[string]struct {
		saved   breaker.Snapshot
		known   bool
		verdict ledger.Verdict
		want    breaker.Snapshot
	}{
		"as saved": {open, true, ledger.Verdict{Kind: ledger.Open, Generation: 5, Until: 1500, Step: 2}, open},
		"by hand":  {forced, true, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 5, Override: true}, forced},
		"by hand, not saved": {breaker.Snapshot{}, false, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 5, Override: true},
			breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Since: now, Until: breaker.Never, Overridden: true,
				Override: unknown(breaker.ModeForcedOpen, breaker.Never)}},
		"by hand for a time, saved before": {open, true, ledger.Verdict{Kind: ledger.Disabled, Generation: 6, Until: 2000, Step: 2, Override: true},
			breaker.Snapshot{State: breaker.StateDisabled, Generation: 5, Step: 2, Since: now, Until: 2000, Openings: 3, Overridden: true,
				Override: unknown(breaker.ModeDisabled, 2000)}},
		"by hand again, until another time": {forced, true, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 5, Until: 2000, Override: true},
			breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Since: now, Until: 2000, Overridden: true,
				Override: unknown(breaker.ModeForcedOpen, 2000)}},
		"by the policy": {breaker.Snapshot{}, false, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never}},
		"by hand, then by the policy alone": {forced, true, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never}},
		"nothing saved, closed": {breaker.Snapshot{}, false, ledger.Verdict{Kind: ledger.Closed, Generation: 1},
			breaker.Snapshot{State: breaker.StateClosed, Since: now, Until: breaker.Never}},
		"nothing saved, open": {breaker.Snapshot{}, false, ledger.Verdict{Kind: ledger.Open, Generation: 3, Until: 2000, Step: 1},
			breaker.Snapshot{State: breaker.StateOpen, Generation: 2, Step: 1, Since: now, Until: 2000, Ejected: 1}},
		"opened since": {breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Openings: 2}, true,
			ledger.Verdict{Kind: ledger.Open, Generation: 6, Until: 2000, Step: 3},
			breaker.Snapshot{State: breaker.StateOpen, Generation: 5, Step: 3, Since: now, Until: 2000, Ejected: 1, Openings: 2}},
		"half-open since": {open, true, ledger.Verdict{Kind: ledger.Open, Generation: 5, Until: 900, Step: 2},
			breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 5, Step: 2, Since: now, Until: breaker.Never, Ejected: 1, Openings: 3}},
		"half-open and idle": {idle, true, ledger.Verdict{Kind: ledger.Open, Generation: 5, Until: 600, Step: 2}, idle},
		"half-open again": {idle, true, ledger.Verdict{Kind: ledger.Open, Generation: 7, Until: 900, Step: 3},
			breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 7, Step: 3, Since: now, Until: breaker.Never, Ejected: 1, Openings: 1}},
		"taken back since": {forced, true, ledger.Verdict{Kind: ledger.Closed, Generation: 6},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 5, Since: now, Until: breaker.Never}},
		"of another life": {open, true, ledger.Verdict{Kind: ledger.Closed, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never, Openings: 3}},
	} {
		if got := reconcile(c.saved, c.known, c.verdict, now); got != c.want {
			t.Errorf("%s: got %+v\nwant %+v", name, got, c.want)
		}
	}
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "state.json")
	if s, err := readState(path); err != nil || len(s.Circuits) != 0 {
		t.Errorf("no file: %+v, %v", s, err)
	}
	want := savedState{Boot: bootID(), Circuits: []savedCircuit{{Policy: "orders", Backend: "192.0.2.1:80",
		Snapshot: breaker.Snapshot{State: breaker.StateOpen, Until: breaker.Never, Step: 3}}}}
	if err := writeState(path, &want); err != nil {
		t.Fatal(err)
	}
	got, err := readState(path)
	if err != nil || len(got.Circuits) != 1 || got.Circuits[0] != want.Circuits[0] {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	want.Boot = "another"
	if err := writeState(path, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := readState(path); err != nil || len(got.Circuits) != 0 {
		t.Errorf("of another boot: %+v, %v; want nothing", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(path); err == nil {
		t.Error("half a file is no error")
	}
}
