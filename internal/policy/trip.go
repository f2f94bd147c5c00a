package policy

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Trip is a tripper: a map with one key, or a list, which means any.
type Trip struct {
	TripSpec
}

// MarshalJSON leaves out all keys but the one.
func (t Trip) MarshalJSON() ([]byte, error) { return json.Marshal(t.TripSpec) }

func (t *Trip) decodeNode(s *scope, n *yaml.Node, path string) {
	target := s.follow(n)
	if target == nil {
		return
	}
	*t = Trip{}
	s.forget(path)
	s.mark(path, n)
	if !strings.ContainsAny(path, ".[") {
		s.trips = 0
	}
	if s.trips++; s.trips > breaker.MaxTrippers {
		if s.sound("trip") {
			s.reject("trip", "must have at most %d trippers", breaker.MaxTrippers)
		}
		return
	}
	if target.Kind == yaml.SequenceNode {
		s.list(n, reflect.ValueOf(&t.Any).Elem(), path)
		if t.Any == nil && s.sound(path) {
			s.rejectTrip(path, "must have at least one tripper")
		}
		return
	}
	if target.Kind != yaml.MappingNode {
		s.rejectTrip(path, "must be a map with one key, or a list, got %s", describe(target))
		return
	}
	errs := len(s.errs)
	s.structure(n, reflect.ValueOf(&t.TripSpec).Elem(), reflect.ValueOf(new(TripSpec)).Elem(), path)
	wrong := len(s.errs) > errs
	if len(target.Content) != 2 {
		keys := make([]string, 0, len(target.Content)/2)
		for i := 0; i < len(target.Content); i += 2 {
			keys = append(keys, target.Content[i].Value)
		}
		got := strings.Join(keys, ", ")
		if got == "" {
			got = "none"
		}
		s.rejectTrip(path, "must have exactly one key, got %s; combine trippers with any or all", got)
		return
	}
	if wrong {
		s.bad["trip"] = true
		return
	}
	t.check(s, path)
}

// rejectTrip reports what is wrong at path, and that the tripper as a whole is not to be relied on.
func (s *scope) rejectTrip(path, format string, args ...any) {
	s.reject(path, format, args...)
	s.bad["trip"] = true
}

// check reports what the tags cannot say about a tripper with one key.
func (t *Trip) check(s *scope, path string) {
	switch {
	case s.given(path+".any") && t.Any == nil:
		s.rejectTrip(path+".any", "must have at least one tripper")
	case s.given(path+".all") && t.All == nil:
		s.rejectTrip(path+".all", "must have at least one tripper")
	case t.SlowRate != nil && t.SlowRate.Rate == 0:
		s.rejectTrip(path+".slowRate.rate", "is required")
	case t.ConsecutiveFailures != nil && t.ConsecutiveFailures.Count == 0:
		s.rejectTrip(path+".consecutiveFailures.count", "is required")
	case t.ConsecutiveFailures != nil && t.ConsecutiveFailures.Of != nil && len(t.ConsecutiveFailures.Of) == 0:
		s.rejectTrip(path+".consecutiveFailures.of", "must have at least one outcome")
	case reflect.ValueOf(t.TripSpec).IsZero():
		s.rejectTrip(path, "must have a value")
	}
}

// SlowRate is a rate, or the long form.
type SlowRate struct {
	SlowRateSpec
}

// MarshalJSON is the rate alone when that is all there is.
func (r SlowRate) MarshalJSON() ([]byte, error) {
	if r.Over == 0 {
		return json.Marshal(r.Rate)
	}
	return json.Marshal(r.SlowRateSpec)
}

func (r *SlowRate) decodeNode(s *scope, n *yaml.Node, path string) {
	shortOrLong(s, n, path, &r.SlowRateSpec, &r.Rate, `bounds:"slowRate"`)
}

// Consecutive is a count, or the long form.
type Consecutive struct {
	ConsecutiveSpec
}

// MarshalJSON is the count alone when that is all there is.
func (c Consecutive) MarshalJSON() ([]byte, error) {
	if c.Of == nil {
		return json.Marshal(c.Count)
	}
	return json.Marshal(c.ConsecutiveSpec)
}

func (c *Consecutive) decodeNode(s *scope, n *yaml.Node, path string) {
	shortOrLong(s, n, path, &c.ConsecutiveSpec, &c.Count, `bounds:"consecutiveFailures"`)
}

// shortOrLong reads a map into long, anything else into short.
func shortOrLong(s *scope, n *yaml.Node, path string, long, short any, tag reflect.StructTag) {
	target := s.follow(n)
	if target == nil {
		return
	}
	if target.Kind == yaml.MappingNode {
		v := reflect.ValueOf(long).Elem()
		s.structure(n, v, reflect.New(v.Type()).Elem(), path)
		return
	}
	v := reflect.ValueOf(short).Elem()
	s.scalar(target, v, path)
	if s.sound(path) {
		checkTags(s, v, path, tag)
	}
}

// compile makes the breaker's tripper of one that was read without an error.
func (t Trip) compile() breaker.Trip {
	children := func(list []Trip) []breaker.Trip {
		compiled := make([]breaker.Trip, len(list))
		for i, child := range list {
			compiled[i] = child.compile()
		}
		return compiled
	}
	switch {
	case t.Any != nil:
		return breaker.Trip{Kind: breaker.TripAny, Children: children(t.Any)}
	case t.All != nil:
		return breaker.Trip{Kind: breaker.TripAll, Children: children(t.All)}
	case t.Not != nil:
		return breaker.Trip{Kind: breaker.TripNot, Children: children([]Trip{*t.Not})}
	case t.MinCalls != nil:
		return breaker.Trip{Kind: breaker.TripMinCalls, N: *t.MinCalls}
	case t.FailureRate != nil:
		return breaker.Trip{Kind: breaker.TripFailureRate, Rate: *t.FailureRate}
	case t.SlowRate != nil:
		return breaker.Trip{Kind: breaker.TripSlowRate, Rate: t.SlowRate.Rate, Over: time.Duration(t.SlowRate.Over)}
	case t.FailureCount != nil:
		return breaker.Trip{Kind: breaker.TripFailureCount, N: *t.FailureCount}
	case t.ConsecutiveFailures != nil:
		trip := breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: t.ConsecutiveFailures.Count}
		if t.ConsecutiveFailures.Of != nil {
			of := streakOf(t.ConsecutiveFailures.Of)
			trip.Of = &of
		}
		return trip
	case t.AvgLatency != nil:
		return breaker.Trip{Kind: breaker.TripAvgLatency, Over: time.Duration(*t.AvgLatency)}
	case t.SuccessRateOutlier != nil:
		o := t.SuccessRateOutlier
		return breaker.Trip{
			Kind: breaker.TripSuccessRateOutlier, Stdev: o.Stdev, MinBackends: o.MinBackends, N: o.MinCalls,
		}
	case t.PendingAge != nil:
		return breaker.Trip{Kind: breaker.TripPendingAge, Over: time.Duration(*t.PendingAge)}
	case t.MinClients != nil:
		return breaker.Trip{Kind: breaker.TripMinClients, N: *t.MinClients}
	}
	state := breaker.StateClosed
	if *t.State == "half-open" {
		state = breaker.StateHalfOpen
	}
	return breaker.Trip{Kind: breaker.TripState, State: state}
}

// tripOf is the inverse of compile.
func tripOf(c breaker.Trip) Trip {
	var t Trip
	children := make([]Trip, len(c.Children))
	for i, child := range c.Children {
		children[i] = tripOf(child)
	}
	over := Duration(c.Over)
	switch c.Kind {
	case breaker.TripAny:
		t.Any = children
	case breaker.TripAll:
		t.All = children
	case breaker.TripNot:
		t.Not = &children[0]
	case breaker.TripMinCalls:
		t.MinCalls = &c.N
	case breaker.TripFailureRate:
		t.FailureRate = &c.Rate
	case breaker.TripSlowRate:
		t.SlowRate = &SlowRate{SlowRateSpec{Rate: c.Rate, Over: over}}
	case breaker.TripFailureCount:
		t.FailureCount = &c.N
	case breaker.TripConsecutiveFailures:
		t.ConsecutiveFailures = &Consecutive{ConsecutiveSpec{Count: c.N}}
		if c.Of != nil {
			t.ConsecutiveFailures.Of = outcomesOf(*c.Of)
		}
	case breaker.TripAvgLatency:
		t.AvgLatency = &over
	case breaker.TripSuccessRateOutlier:
		t.SuccessRateOutlier = &OutlierSpec{Stdev: c.Stdev, MinBackends: c.MinBackends, MinCalls: c.N}
	case breaker.TripPendingAge:
		t.PendingAge = &over
	case breaker.TripMinClients:
		t.MinClients = &c.N
	case breaker.TripState:
		state := "closed"
		if c.State == breaker.StateHalfOpen {
			state = "half-open"
		}
		t.State = &state
	}
	return t
}
