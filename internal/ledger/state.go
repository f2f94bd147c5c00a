package ledger

import (
	"math"

	"github.com/cbagent/cbagent/internal/breaker"
)

// The programs count generations from 1, since their 0 means that nothing is judged; the breaker counts from 0.
func toKernel(generation uint32) uint32   { return generation + 1 }
func fromKernel(generation uint32) uint32 { return generation - 1 }

// HalfOpen reports whether the verdict is an open one past its deadline.
func (v *Verdict) HalfOpen(now int64) bool { return v.Kind == Open && now >= v.Until }

// judging returns the breaker's generation that the programs judge in at now.
func (v *Verdict) judging(now int64) uint32 {
	if v.HalfOpen(now) {
		return fromKernel(v.Generation) + 1
	}
	return fromKernel(v.Generation)
}

// verdictOf returns a circuit's state as a verdict.
func verdictOf(s *breaker.Status, half *breaker.HalfOpen) Verdict {
	v := Verdict{
		Generation: toKernel(s.Generation), Monitor: s.Mode == breaker.ModeMonitor, Override: s.Overridden,
		Step: uint16(min(s.Step, math.MaxUint16)),
	}
	switch s.State {
	case breaker.StateClosed:
		v.Kind = Closed
	case breaker.StateDisabled, breaker.StateForcedOpen:
		v.Kind = Disabled
		if s.State == breaker.StateForcedOpen {
			v.Kind = ForcedOpen
		}
		if s.Until != breaker.Never {
			v.Until = int64(s.Until)
		}
	case breaker.StateOpen, breaker.StateHalfOpen:
		v.Kind, v.Until = Open, int64(s.Until)
		if s.State == breaker.StateHalfOpen {
			// The programs reach half-open by an open verdict past its deadline, which has the generation before.
			v.Generation--
			v.Until = int64(s.Since)
		}
		v.Calls, v.Concurrent = uint32(half.Calls), uint32(half.Concurrent)
		if r := half.Ramp; r != nil {
			v.RampOver, v.RampFrom, v.RampTo = r.Over, r.From, r.To
		}
	}
	return v
}

// effectiveGeneration returns the circuit's generation at a moment: an opening past its deadline is the next already.
func effectiveGeneration(s *breaker.Status, at breaker.Time) uint32 {
	if s.State == breaker.StateOpen && at >= s.Until {
		return s.Generation + 1
	}
	return s.Generation
}
