package breaker

import (
	"fmt"
	"math"
	"time"
)

func (v *validator) trip() {
	v.slow = map[time.Duration]bool{v.settings.Outcome.Slow: true}
	v.streaks = map[ResultSet]bool{}
	v.tripper("trip", &v.settings.Trip, 1)
	v.check(v.trippers <= MaxTrippers, "trip", fmt.Sprintf("must have at most %d trippers", MaxTrippers), v.trippers)
	v.check(len(v.slow) <= MaxSlowKinds, "trip", fmt.Sprintf("must name at most %d different slow thresholds, outcome.slow included",
		MaxSlowKinds), len(v.slow))
	v.check(len(v.streaks) <= MaxStreakKinds, "trip", fmt.Sprintf("must name at most %d different lists of classes in consecutiveFailures",
		MaxStreakKinds), len(v.streaks))
}

// tripper checks t; key is the path of the map that holds it.
func (v *validator) tripper(key string, t *Trip, depth int) {
	v.trippers++
	if t.Kind >= tripKinds {
		v.check(false, key, "must be one of the trippers", t.Kind)
		return
	}
	key += "." + t.Kind.String()
	if t.Kind > TripNot && len(t.Children) > 0 {
		v.check(false, key, "must not hold other trippers", len(t.Children))
	}
	switch t.Kind {
	case TripAny, TripAll, TripNot:
		v.composition(key, t, depth)
	case TripMinCalls, TripFailureCount, TripConsecutiveFailures:
		v.count(key, t.N, 1, MaxCallCount)
		if t.Kind == TripConsecutiveFailures && t.Of != nil {
			v.check(t.Of.Len() > 0, key+".of", "must name at least one outcome class", "none")
			v.streaks[*t.Of] = true
		}
	case TripFailureRate, TripSlowRate:
		v.check(t.Rate > 0 && t.Rate <= 1, key, "must be above 0 and at most 1", t.Rate)
		if t.Kind == TripSlowRate {
			v.slowRate(key, t)
		}
	case TripAvgLatency, TripPendingAge:
		v.duration(key, t.Over, time.Nanosecond)
	case TripSuccessRateOutlier:
		v.check(t.Stdev >= 0 && t.Stdev <= 1000, key+".stdev", "must be between 0 and 1000", t.Stdev)
		v.count(key+".minBackends", t.MinBackends, 1, math.MaxInt32)
		v.count(key+".minCalls", t.N, 1, MaxCallCount)
	case TripMinClients:
		v.count(key, t.N, 1, MaxMinClients)
	case TripState:
		v.check(t.State == StateClosed || t.State == StateHalfOpen, key, "must be closed or half-open", t.State)
	}
}

func (v *validator) composition(key string, t *Trip, depth int) {
	if t.Kind == TripNot {
		v.check(len(t.Children) == 1, key, "must hold one tripper", len(t.Children))
	} else {
		v.check(len(t.Children) > 0, key, "must hold at least one tripper", 0)
	}
	if depth >= MaxTripDepth {
		v.check(false, key, "must not be nested deeper", fmt.Sprint(depth, " levels"))
		return
	}
	for i := range t.Children {
		child := key
		if t.Kind != TripNot {
			child = fmt.Sprintf("%s[%d]", key, i)
		}
		v.tripper(child, &t.Children[i], depth+1)
	}
}

func (v *validator) slowRate(key string, t *Trip) {
	if t.Over == 0 {
		return // that of outcome.slow
	}
	v.duration(key+".over", t.Over, time.Nanosecond)
	v.slow[t.Over] = true
}
