package breaker

import "time"

// DefaultSettings returns the settings of an http policy without keys: five failures in a row, or half of at least twenty
// outcomes within 10 s, open a circuit for 30 s, doubling up to 5 min; three probes close it.
func DefaultSettings() Settings {
	s := Settings{
		Mode:  ModeEnforce,
		Scope: ScopeBackend,
		Window: Window{
			Type:   WindowTime,
			Size:   10 * time.Second,
			Bucket: time.Second,
		},
		Trip: Trip{Kind: TripAny, Children: []Trip{
			{Kind: TripConsecutiveFailures, N: 5},
			{Kind: TripAll, Children: []Trip{
				{Kind: TripMinCalls, N: 20},
				{Kind: TripFailureRate, Rate: 0.5},
			}},
		}},
		Open: Open{
			Duration:   30 * time.Second,
			Backoff:    BackoffExponential,
			Multiplier: 2,
			Max:        5 * time.Minute,
		},
		HalfOpen: HalfOpen{Calls: 3, Concurrent: 3, Timeout: 30 * time.Second},
		Ejection: Ejection{MaxPercent: 100},
	}
	s.Outcome.Failure.AddRange(500, 599)
	for _, r := range []Result{
		ResultConnectRefused, ResultConnectTimeout, ResultUnreachable, ResultReset, ResultTimeout, ResultAbandoned, ResultH2Refused,
		ResultH2Reset, ResultGRPC(GRPCUnknown), ResultGRPC(GRPCDeadlineExceeded), ResultGRPC(GRPCInternal),
		ResultGRPC(GRPCUnavailable), ResultGRPC(GRPCDataLoss),
	} {
		s.Outcome.Failure.Add(r)
	}
	s.Outcome.Ignore.Add(ResultAborted)
	return s
}
