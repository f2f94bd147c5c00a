package ledger

import (
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Where the state file differs from the kernel, it is older.
func TestResume(t *testing.T) {
	const now = 1000
	open := breaker.Snapshot{State: breaker.StateOpen, Generation: 4, Step: 2, Since: 500, Until: 1500, Ejected: 7, Openings: 3}
	idle := breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 5, Step: 2, Since: 600, Until: breaker.Never, Openings: 1, Yielded: true}
	forced := breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Overridden: true, Until: breaker.Never,
		Override: breaker.Override{Mode: breaker.ModeForcedOpen, Who: "root", Until: breaker.Never}}
	unknown := func(mode breaker.Mode, until breaker.Time) breaker.Override {
		return breaker.Override{Mode: mode, Since: now, Until: until, Who: UnknownOperator, Why: UnknownReason}
	}
	for name, c := range map[string]struct {
		saved   breaker.Snapshot
		known   bool
		verdict Verdict
		want    breaker.Snapshot
	}{
		"as saved": {open, true, Verdict{Kind: Open, Generation: 5, Until: 1500, Step: 2}, open},
		"by hand":  {forced, true, Verdict{Kind: ForcedOpen, Generation: 5, Override: true}, forced},
		"by hand, not saved": {breaker.Snapshot{}, false, Verdict{Kind: ForcedOpen, Generation: 5, Override: true},
			breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Since: now, Until: breaker.Never, Overridden: true,
				Override: unknown(breaker.ModeForcedOpen, breaker.Never)}},
		"by hand for a time, saved before": {open, true, Verdict{Kind: Disabled, Generation: 6, Until: 2000, Step: 2, Override: true},
			breaker.Snapshot{State: breaker.StateDisabled, Generation: 5, Step: 2, Since: now, Until: 2000, Openings: 3, Overridden: true,
				Override: unknown(breaker.ModeDisabled, 2000)}},
		"by hand again, until another time": {forced, true, Verdict{Kind: ForcedOpen, Generation: 5, Until: 2000, Override: true},
			breaker.Snapshot{State: breaker.StateForcedOpen, Generation: 4, Since: now, Until: 2000, Overridden: true,
				Override: unknown(breaker.ModeForcedOpen, 2000)}},
		"by the policy": {breaker.Snapshot{}, false, Verdict{Kind: ForcedOpen, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never}},
		"by hand, then by the policy alone": {forced, true, Verdict{Kind: ForcedOpen, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never}},
		"nothing saved, closed": {breaker.Snapshot{}, false, Verdict{Kind: Closed, Generation: 1},
			breaker.Snapshot{State: breaker.StateClosed, Since: now, Until: breaker.Never}},
		"nothing saved, open": {breaker.Snapshot{}, false, Verdict{Kind: Open, Generation: 3, Until: 2000, Step: 1},
			breaker.Snapshot{State: breaker.StateOpen, Generation: 2, Step: 1, Since: now, Until: 2000, Ejected: 1}},
		"opened since": {breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Openings: 2}, true,
			Verdict{Kind: Open, Generation: 6, Until: 2000, Step: 3},
			breaker.Snapshot{State: breaker.StateOpen, Generation: 5, Step: 3, Since: now, Until: 2000, Ejected: 1, Openings: 2}},
		"half-open since": {open, true, Verdict{Kind: Open, Generation: 5, Until: 900, Step: 2},
			breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 5, Step: 2, Since: now, Until: breaker.Never, Ejected: 1, Openings: 3}},
		"half-open and idle": {idle, true, Verdict{Kind: Open, Generation: 5, Until: 600, Step: 2}, idle},
		"half-open again": {idle, true, Verdict{Kind: Open, Generation: 7, Until: 900, Step: 3},
			breaker.Snapshot{State: breaker.StateHalfOpen, Generation: 7, Step: 3, Since: now, Until: breaker.Never, Ejected: 1, Openings: 1}},
		"taken back since": {forced, true, Verdict{Kind: Closed, Generation: 6},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 5, Since: now, Until: breaker.Never}},
		"of another life": {open, true, Verdict{Kind: Closed, Generation: 5},
			breaker.Snapshot{State: breaker.StateClosed, Generation: 4, Since: now, Until: breaker.Never, Openings: 3}},
	} {
		if got := Resume(c.saved, c.known, c.verdict, now); got != c.want {
			t.Errorf("%s: got %+v\nwant %+v", name, got, c.want)
		}
	}
}
