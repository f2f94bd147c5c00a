package ledger

import "github.com/cbagent/cbagent/internal/breaker"

// Resume returns the state to go on from after a restart. What the programs enforce decides, since it was written first;
// what was saved (if known) adds what a verdict does not say, as far as both agree. now is in ns of the kernel's monotonic
// clock.
func Resume(saved breaker.Snapshot, known bool, v Verdict, now int64) breaker.Snapshot {
	halfOpen := v.HalfOpen(now)
	generation := v.judging(now)
	if known && saved.Generation == generation && enforces(v.Kind, halfOpen, saved.State) && sameOverride(&saved, &v) {
		return saved
	}
	s := saved
	s.Generation, s.Step, s.Since, s.Until = generation, int(v.Step), breaker.Time(now), breaker.Never
	s.Overridden, s.Override, s.Yielded, s.Ejected = false, breaker.Override{}, false, 0
	switch {
	case v.Override && v.Kind == ForcedOpen:
		s.State, s.Overridden, s.Override = breaker.StateForcedOpen, true, overrideOf(breaker.ModeForcedOpen, &v, now)
		s.Until = s.Override.Until
	case v.Override && v.Kind == Disabled:
		s.State, s.Overridden, s.Override = breaker.StateDisabled, true, overrideOf(breaker.ModeDisabled, &v, now)
		s.Until = s.Override.Until
	case halfOpen:
		s.State, s.Ejected = breaker.StateHalfOpen, 1
	case v.Kind == Open:
		s.State, s.Ejected, s.Until = breaker.StateOpen, 1, breaker.Time(v.Until)
	default:
		// Forced-open and disabled without an override are the mode of a policy. The mode may have changed since.
		s.State = breaker.StateClosed
	}
	return s
}

// Who and why of an override that the programs enforce and no saved state explains.
const (
	UnknownOperator = "unknown"
	UnknownReason   = "unknown (state file was not saved)"
)

// overrideOf returns the operator's mode that a verdict enforces.
func overrideOf(mode breaker.Mode, v *Verdict, now int64) breaker.Override {
	return breaker.Override{Mode: mode, Since: breaker.Time(now), Until: overrideEnd(v), Who: UnknownOperator, Why: UnknownReason}
}

// sameOverride reports whether what was saved explains the verdict's override, or that it has none.
func sameOverride(saved *breaker.Snapshot, v *Verdict) bool {
	if !saved.Overridden || !v.Override {
		return saved.Overridden == v.Override
	}
	return saved.Override.Until == overrideEnd(v)
}

// overrideEnd returns when the override of a verdict ends.
func overrideEnd(v *Verdict) breaker.Time {
	if v.Until == 0 {
		return breaker.Never
	}
	return breaker.Time(v.Until)
}

// enforces reports whether a verdict is that of a state.
func enforces(kind Kind, halfOpen bool, state breaker.State) bool {
	switch state {
	case breaker.StateClosed:
		return kind == Closed
	case breaker.StateOpen:
		return kind == Open && !halfOpen
	case breaker.StateHalfOpen:
		return halfOpen
	case breaker.StateForcedOpen:
		return kind == ForcedOpen
	case breaker.StateDisabled:
		return kind == Disabled
	}
	return false
}
