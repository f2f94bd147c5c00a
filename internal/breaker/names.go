package breaker

import "strconv"

// name returns names[i], or the number itself when there is none: printing never panics.
func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return strconv.Itoa(int(i))
}

var (
	stateNames   = []string{"closed", "open", "half-open", "forced-open", "disabled"}
	modeNames    = []string{"enforce", "monitor", "disabled", "forced-open"}
	scopeNames   = []string{"backend", "policy"}
	windowNames  = []string{"time", "count"}
	backoffNames = []string{"none", "linear", "exponential"}
	tripNames    = []string{"any", "all", "not", "minCalls", "failureRate", "slowRate", "failureCount",
		"consecutiveFailures", "avgLatency", "successRateOutlier", "pendingAge", "minClients", "state"}
	sourceNames    = []string{"operator", "mode", "outcomes"}
	eventNames     = []string{"transition", "overflow", "override"}
	judgementNames = []string{"judged", "ignored", "stale", "no-permit", "not-judging"}
)

// String returns the name used in policies, traces and metrics.
func (s State) String() string { return name(stateNames, uint8(s)) }

// String returns the name used in policies.
func (m Mode) String() string { return name(modeNames, uint8(m)) }

// String returns the name used in policies.
func (s Scope) String() string { return name(scopeNames, uint8(s)) }

// String returns the name used in policies.
func (w WindowType) String() string { return name(windowNames, uint8(w)) }

// String returns the name used in policies.
func (b Backoff) String() string { return name(backoffNames, uint8(b)) }

// String returns the key used in policies.
func (k TripKind) String() string { return name(tripNames, uint8(k)) }

// String returns the name used in logs and records.
func (s Source) String() string { return name(sourceNames, uint8(s)) }

// String returns the name used in traces: transition, overflow or override.
func (k EventKind) String() string { return name(eventNames, uint8(k)) }

// String returns the name used in metrics.
func (j Judgement) String() string { return name(judgementNames, uint8(j)) }
