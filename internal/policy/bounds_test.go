package policy

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/breaker"
)

// bounded has all settings with breaker.Bounds: the keys of a policy that give it a value, where %s stands, and the field of
// breaker.Settings where that value must arrive.
var bounded = map[string]struct {
	text  string
	value func(s *breaker.Settings) any
}{
	"outcome.slow":        {"outcome: {slow: %s}", func(s *breaker.Settings) any { return &s.Outcome.Slow }},
	"window.bucket":       {"window: {size: 1h, bucket: %s}", func(s *breaker.Settings) any { return &s.Window.Bucket }},
	"open.duration":       {"open: {duration: %s, max: 24h}", func(s *breaker.Settings) any { return &s.Open.Duration }},
	"open.multiplier":     {"open: {multiplier: %s}", func(s *breaker.Settings) any { return &s.Open.Multiplier }},
	"open.max":            {"open: {max: %s}", func(s *breaker.Settings) any { return &s.Open.Max }},
	"open.jitter":         {"open: {jitter: %s}", func(s *breaker.Settings) any { return &s.Open.Jitter }},
	"halfOpen.calls":      {"halfOpen: {calls: %s, concurrent: 1}", func(s *breaker.Settings) any { return &s.HalfOpen.Calls }},
	"halfOpen.concurrent": {"halfOpen: {calls: 100000, concurrent: %s}", func(s *breaker.Settings) any { return &s.HalfOpen.Concurrent }},
	"halfOpen.tolerate":   {"halfOpen: {calls: 100000, tolerate: %s}", func(s *breaker.Settings) any { return &s.HalfOpen.Tolerate }},
	"halfOpen.timeout":    {"halfOpen: {timeout: %s}", func(s *breaker.Settings) any { return &s.HalfOpen.Timeout }},
	"halfOpen.ramp.from":  {"halfOpen: {ramp: {from: %s, to: 1}}", func(s *breaker.Settings) any { return &s.HalfOpen.Ramp.From }},
	"halfOpen.ramp.to":    {"halfOpen: {ramp: {from: 0, to: %s}}", func(s *breaker.Settings) any { return &s.HalfOpen.Ramp.To }},
	"halfOpen.ramp.over":  {"halfOpen: {ramp: {over: %s}}", func(s *breaker.Settings) any { return &s.HalfOpen.Ramp.Over }},
	"ejection.maxPercent": {"ejection: {maxPercent: %s}", func(s *breaker.Settings) any { return &s.Ejection.MaxPercent }},
	"ejection.minHealthy": {"ejection: {minHealthy: %s}", func(s *breaker.Settings) any { return &s.Ejection.MinHealthy }},

	"minCalls":                       {"trip: {minCalls: %s}", func(s *breaker.Settings) any { return &s.Trip.N }},
	"failureRate":                    {"trip: {failureRate: %s}", func(s *breaker.Settings) any { return &s.Trip.Rate }},
	"slowRate":                       {"trip: {slowRate: {rate: %s, over: 1s}}", func(s *breaker.Settings) any { return &s.Trip.Rate }},
	"slowRate.over":                  {"trip: {slowRate: {rate: 0.5, over: %s}}", func(s *breaker.Settings) any { return &s.Trip.Over }},
	"failureCount":                   {"trip: {failureCount: %s}", func(s *breaker.Settings) any { return &s.Trip.N }},
	"consecutiveFailures":            {"trip: {consecutiveFailures: %s}", func(s *breaker.Settings) any { return &s.Trip.N }},
	"avgLatency":                     {"trip: {avgLatency: %s}", func(s *breaker.Settings) any { return &s.Trip.Over }},
	"successRateOutlier.stdev":       {"trip: {successRateOutlier: {stdev: %s}}", func(s *breaker.Settings) any { return &s.Trip.Stdev }},
	"successRateOutlier.minBackends": {"trip: {successRateOutlier: {minBackends: %s}}", func(s *breaker.Settings) any { return &s.Trip.MinBackends }},
	"successRateOutlier.minCalls":    {"trip: {successRateOutlier: {minCalls: %s}}", func(s *breaker.Settings) any { return &s.Trip.N }},
	"pendingAge":                     {"trip: {pendingAge: %s}", func(s *breaker.Settings) any { return &s.Trip.Over }},
	"minClients":                     {"trip: {minClients: %s}", func(s *breaker.Settings) any { return &s.Trip.N }},
}

// A value is accepted in a policy file if and only if the breaker accepts it, at every end of every range.
func TestPolicyAndBreakerAcceptTheSame(t *testing.T) {
	for name, setting := range bounded {
		b := breaker.BoundsOf(name)
		sample := "1"
		if b.Duration {
			sample = "1h" // divides every window, and is in every range
		}
		parsed := mustOne(t, fmt.Sprintf(setting.text, sample))
		integer := reflect.TypeOf(setting.value(&parsed.Breaker)).Elem().Kind() == reflect.Int
		step := func(x, towards float64) float64 {
			if integer || b.Duration {
				return x + math.Copysign(1, towards-x)
			}
			return math.Nextafter(x, towards)
		}
		accepted := 0
		for _, x := range []float64{
			step(b.Low, math.Inf(-1)), b.Low, step(b.Low, math.Inf(1)), step(b.High, math.Inf(-1)), b.High, step(b.High, math.Inf(1)), -1,
		} {
			text := strconv.FormatFloat(x, 'f', -1, 64)
			if b.Duration {
				text = strconv.FormatInt(int64(x), 10) + "ns"
			}
			text = fmt.Sprintf(setting.text, text)
			set, err := parseOne(text)
			want := parsed.Breaker
			if want.HalfOpen.Ramp != nil {
				ramp := *want.HalfOpen.Ramp
				want.HalfOpen.Ramp = &ramp
			}
			reflect.ValueOf(setting.value(&want)).Elem().Set(reflect.ValueOf(x).Convert(reflect.TypeOf(setting.value(&want)).Elem()))
			problems := want.Validate()
			switch {
			case (err == nil) != (problems == nil):
				t.Errorf("%s: a policy file: %v; the breaker: %v", text, err, problems)
			case err == nil:
				accepted++
				if diff := cmp.Diff(setting.value(&want), setting.value(&set.Policies[0].Breaker)); diff != "" {
					t.Errorf("%s: %s", text, diff)
				}
			case !b.Has(x) && !strings.Contains(err.Error(), "must be") || b.Has(x) && !related(name):
				t.Errorf("%s: %v", text, err)
			}
		}
		if accepted == 0 {
			t.Errorf("%s: nothing was accepted", name)
		}
	}
}

// related is true of settings whose range depends on another one, too.
func related(name string) bool {
	return slices.Contains([]string{"window.bucket", "halfOpen.concurrent", "halfOpen.tolerate"}, name)
}

// Every number and duration of a policy that the breaker uses has its bounds there.
func TestEverySettingHasItsBounds(t *testing.T) {
	ours := []string{ // of the agent and of the datapath
		"timeout", "patience", "connectTimeout", "status", "grpcStatus", "maxConnections", "maxRequests", "maxRequestsPerConnection", "limit", "period", "burst",
	}
	seen := map[string]bool{}
	visited := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || visited[typ] {
			return
		}
		visited[typ] = true
		for _, f := range fieldsOf(typ) {
			if f.key == "" {
				continue // Size: a number or a duration, see below
			}
			inner := typ.FieldByIndex(f.index).Type
			walk(inner)
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			number := inner.Kind() == reflect.Int || inner.Kind() == reflect.Float64 || inner == reflect.TypeFor[Duration]()
			setting, has := f.tag.Lookup("bounds")
			if has {
				seen[setting] = true
				if _, ok := bounded[setting]; !ok {
					t.Errorf("%s.%s: the test does not know %s", typ.Name(), f.key, setting)
				}
			} else if number && !slices.Contains(ours, f.key) {
				t.Errorf("%s.%s has no bounds", typ.Name(), f.key)
			}
		}
	}
	walk(reflect.TypeFor[Keys]())
	for name := range bounded {
		if !seen[name] {
			t.Errorf("no key has the bounds of %s", name)
		}
	}
}

// A count window and a time window have one key for their size.
func TestPolicyAndBreakerAcceptTheSameWindows(t *testing.T) {
	for _, size := range []int{0, 1, breaker.MaxWindowCount, breaker.MaxWindowCount + 1} {
		text := fmt.Sprintf("window: {type: count, size: %d}", size)
		_, err := parseOne(text)
		s := breaker.DefaultSettings()
		s.Window = breaker.Window{Type: breaker.WindowCount, Count: size}
		if problems := s.Validate(); (err == nil) != (problems == nil) {
			t.Errorf("%s: a policy file: %v; the breaker: %v", text, err, problems)
		}
	}
	for _, size := range []time.Duration{0, breaker.MinWindowSize - 1, breaker.MinWindowSize, breaker.MaxWindowSize, breaker.MaxWindowSize + 1} {
		text := fmt.Sprintf("window: {size: %dns, bucket: %dns}", size, max(size/10, 1))
		_, err := parseOne(text)
		s := breaker.DefaultSettings()
		s.Window = breaker.Window{Size: size, Bucket: max(size/10, 1)}
		if problems := s.Validate(); (err == nil) != (problems == nil) {
			t.Errorf("%s: a policy file: %v; the breaker: %v", text, err, problems)
		}
	}
}
