package breaker

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds are the accepted values of a setting that is a number or a duration: Low to High, both included, except Low if
// Above is true. Durations are in nanoseconds, which a float64 holds exactly up to MaxDuration.
type Bounds struct {
	Low, High float64
	Above     bool // Low itself is not accepted
	Duration  bool
}

// bounds has the Bounds of every such setting, by its key in a policy file; of a tripper, by its key in trip.
var bounds = map[string]Bounds{
	"outcome.slow":                   upTo(0, MaxDuration),
	"window.bucket":                  upTo(time.Millisecond, MaxWindowSize),
	"open.duration":                  upTo(time.Millisecond, MaxDuration),
	"open.multiplier":                {Low: 1, High: 1000},
	"open.max":                       upTo(time.Millisecond, MaxDuration),
	"open.jitter":                    {Low: 0, High: 1},
	"halfOpen.calls":                 {Low: 0, High: MaxProbes},
	"halfOpen.concurrent":            {Low: 0, High: MaxProbes},
	"halfOpen.tolerate":              {Low: 0, High: MaxProbes},
	"halfOpen.timeout":               upTo(time.Millisecond, MaxDuration),
	"halfOpen.ramp.from":             {Low: 0, High: 1},
	"halfOpen.ramp.to":               {Low: 0, High: 1, Above: true},
	"halfOpen.ramp.over":             upTo(time.Millisecond, MaxDuration),
	"ejection.maxPercent":            {Low: 0, High: 100},
	"ejection.minHealthy":            {Low: 0, High: MaxBackends},
	"minCalls":                       {Low: 1, High: MaxCallCount},
	"failureRate":                    {Low: 0, High: 1, Above: true},
	"slowRate":                       {Low: 0, High: 1, Above: true},
	"slowRate.over":                  upTo(time.Microsecond, MaxDuration),
	"failureCount":                   {Low: 1, High: MaxCallCount},
	"consecutiveFailures":            {Low: 1, High: MaxCallCount},
	"avgLatency":                     upTo(time.Microsecond, MaxDuration),
	"successRateOutlier.stdev":       {Low: 0, High: 1000},
	"successRateOutlier.minBackends": {Low: 1, High: MaxBackends},
	"successRateOutlier.minCalls":    {Low: 1, High: MaxCallCount},
	"pendingAge":                     upTo(time.Millisecond, MaxDuration),
	"minClients":                     {Low: 1, High: MaxMinClients},
}

func upTo(low, high time.Duration) Bounds {
	return Bounds{Low: float64(low), High: float64(high), Duration: true}
}

// BoundsOf returns the Bounds of a setting by its key in a policy file ("open.duration"), or of a tripper by its key in trip
// ("avgLatency", "slowRate.over"). It panics when there is no such setting.
func BoundsOf(key string) Bounds {
	b, ok := bounds[key]
	if !ok {
		panic("no setting " + key)
	}
	return b
}

// Has reports whether x is within b. NaN never is.
func (b Bounds) Has(x float64) bool { return x >= b.Low && x <= b.High && !(b.Above && x == b.Low) }

// String returns b in the notation of the policy's format: "1..100", "1ms..24h", "(0..1" without the 0.
func (b Bounds) String() string {
	text := b.text(b.Low) + ".." + b.text(b.High)
	if b.Above {
		return "(" + text
	}
	return text
}

// want describes the accepted values.
func (b Bounds) want() string {
	if b.Above {
		return fmt.Sprintf("must be above %s and at most %s", b.text(b.Low), b.text(b.High))
	}
	return fmt.Sprintf("must be between %s and %s", b.text(b.Low), b.text(b.High))
}

func (b Bounds) text(x float64) string {
	switch {
	case b.Duration:
		return strings.Replace(short(time.Duration(x)), "µ", "u", 1)
	case x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}
