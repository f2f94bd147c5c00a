package breaker

import (
	"fmt"
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
	name := t.Kind.String()
	key += "." + name
	if t.Kind > TripNot && len(t.Children) > 0 {
		v.check(false, key, "must not hold other trippers", len(t.Children))
	}
	switch t.Kind {
	case TripAny, TripAll, TripNot:
		v.composition(key, t, depth)
	case TripMinCalls, TripFailureCount, TripConsecutiveFailures:
		v.count(key, BoundsOf(name), t.N)
		if t.Kind == TripConsecutiveFailures && t.Of != nil {
			v.check(t.Of.Len() > 0, key+".of", "must name at least one outcome class", "none")
			v.streaks[*t.Of] = true
		}
	case TripFailureRate, TripSlowRate:
		v.number(key, BoundsOf(name), t.Rate)
		if t.Kind == TripSlowRate {
			v.slowRate(key, t)
		}
	case TripAvgLatency, TripPendingAge:
		v.duration(key, BoundsOf(name), t.Over)
	case TripSuccessRateOutlier:
		v.number(key+".stdev", BoundsOf(name+".stdev"), t.Stdev)
		v.count(key+".minBackends", BoundsOf(name+".minBackends"), t.MinBackends)
		v.count(key+".minCalls", BoundsOf(name+".minCalls"), t.N)
	case TripMinClients:
		v.count(key, BoundsOf(name), t.N)
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
	v.duration(key+".over", BoundsOf("slowRate.over"), t.Over)
	v.slow[t.Over] = true
}
