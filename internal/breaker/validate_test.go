package breaker

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestImpossibleSettings(t *testing.T) {
	deep := consecutive(1)
	for range MaxTripDepth {
		deep = Trip{Kind: TripNot, Children: []Trip{deep}}
	}
	many := func(n int, child func(i int) Trip) (children []Trip) {
		for i := range n {
			children = append(children, child(i))
		}
		return children
	}
	slow := func(i int) Trip { return Trip{Kind: TripSlowRate, Rate: 1, Over: time.Duration(i+1) * time.Second} }
	streak := func(i int) Trip {
		of := &ResultSet{}
		of.Add(Result(500 + i))
		return Trip{Kind: TripConsecutiveFailures, N: 1, Of: of}
	}
	for want, change := range map[string]func(*Settings){
		"mode: must be enforce, monitor, disabled or forced-open, got 9":                     func(s *Settings) { s.Mode = 9 },
		"scope: must be backend or policy, got 7":                                            func(s *Settings) { s.Scope = 7 },
		"outcome.slow: must be between 0s and 24h, got -1s":                                  func(s *Settings) { s.Outcome.Slow = -time.Second },
		"window.type: must be time or count, got 3":                                          func(s *Settings) { s.Window.Type = 3 },
		"window.size: must be between 1s and 1h, got 0s\n":                                   func(s *Settings) { s.Window.Size = 0 },
		"window.size: must be between 1s and 1h, got 1h1m":                                   func(s *Settings) { s.Window.Size = 61 * time.Minute },
		"window.size: must be between 1 and 100000, got 0":                                   func(s *Settings) { s.Window = Window{Type: WindowCount} },
		"window.bucket: must divide window.size (10s), got 3s":                               func(s *Settings) { s.Window.Bucket = 3 * time.Second },
		"window.bucket: must divide window.size (10s), got 0s":                               func(s *Settings) { s.Window.Bucket = 0 },
		"window.bucket: must be between 1ms and 1h, got 1µs":                                 func(s *Settings) { s.Window.Bucket = time.Microsecond },
		"window.bucket: must be at least window.size / 100000, got 10ms":                     func(s *Settings) { s.Window.Size, s.Window.Bucket = time.Hour, 10*time.Millisecond },
		"trip: must be one of the trippers, got 200":                                         func(s *Settings) { s.Trip.Kind = 200 },
		"trip.any: must hold at least one tripper, got 0":                                    func(s *Settings) { s.Trip.Children = nil },
		"trip.not: must hold one tripper, got 0":                                             func(s *Settings) { s.Trip = Trip{Kind: TripNot} },
		"trip.minCalls: must not hold other trippers, got 1":                                 func(s *Settings) { s.Trip = minCalls(1); s.Trip.Children = []Trip{minCalls(1)} },
		"trip.any[1].all[0].minCalls: must be between 1 and 1000000000, got 0":               func(s *Settings) { s.Trip.Children[1].Children[0].N = 0 },
		"trip.any[1].all[1].failureRate: must be above 0 and at most 1, got 1.5":             func(s *Settings) { s.Trip.Children[1].Children[1].Rate = 1.5 },
		"trip.failureRate: must be above 0 and at most 1, got NaN":                           func(s *Settings) { s.Trip = failureRate(math.NaN()) },
		"trip.slowRate.over: must be between 1us and 24h, got -1s":                           func(s *Settings) { s.Trip = Trip{Kind: TripSlowRate, Rate: 1, Over: -time.Second} },
		"trip.consecutiveFailures.of: must name at least one outcome class, got none":        func(s *Settings) { s.Trip = Trip{Kind: TripConsecutiveFailures, N: 1, Of: &ResultSet{}} },
		"trip.avgLatency: must be between 1us and 24h, got 0s":                               func(s *Settings) { s.Trip = Trip{Kind: TripAvgLatency} },
		"trip.pendingAge: must be between 1ms and 24h, got 25h":                              func(s *Settings) { s.Trip = Trip{Kind: TripPendingAge, Over: 25 * time.Hour} },
		"trip.successRateOutlier.stdev: must be between 0 and 1000, got -1":                  func(s *Settings) { s.Trip = Trip{Kind: TripSuccessRateOutlier, Stdev: -1, N: 1, MinBackends: 1} },
		"trip.successRateOutlier.minBackends: must be between 1":                             func(s *Settings) { s.Trip = Trip{Kind: TripSuccessRateOutlier, N: 1} },
		"trip.minClients: must be between 1 and 1000, got 1001":                              func(s *Settings) { s.Trip = Trip{Kind: TripMinClients, N: 1001} },
		"trip.state: must be closed or half-open, got open":                                  func(s *Settings) { s.Trip = Trip{Kind: TripState, State: StateOpen} },
		"must not be nested deeper, got 32 levels":                                           func(s *Settings) { s.Trip = deep },
		"trip: must have at most 256 trippers, got 300":                                      func(s *Settings) { s.Trip = anyOf(many(299, func(int) Trip { return minCalls(1) })...) },
		"trip: must name at most 8 different slow thresholds, outcome.slow included, got 9":  func(s *Settings) { s.Trip = anyOf(many(8, slow)...) },
		"trip: must name at most 8 different lists of classes in consecutiveFailures, got 9": func(s *Settings) { s.Trip = anyOf(many(9, streak)...) },
		"open.duration: must be between 1ms and 24h, got 0s":                                 func(s *Settings) { s.Open.Duration = 0 },
		"open.backoff: must be none, linear or exponential, got 3":                           func(s *Settings) { s.Open.Backoff = 3 },
		"open.multiplier: must be between 1 and 1000, got 0.5":                               func(s *Settings) { s.Open.Multiplier = 0.5 },
		"open.max: must be between 1ms and 24h, got 48h":                                     func(s *Settings) { s.Open.Max = 48 * time.Hour },
		"open.jitter: must be between 0 and 1, got NaN":                                      func(s *Settings) { s.Open.Jitter = math.NaN() },
		"halfOpen.calls: must be between 0 and 100000, got -1":                               func(s *Settings) { s.HalfOpen.Calls = -1 },
		"halfOpen.concurrent: must be between 1 and halfOpen.calls (3), got 4":               func(s *Settings) { s.HalfOpen.Concurrent = 4 },
		"halfOpen.tolerate: must be at least 0 and below halfOpen.calls (3), got 3":          func(s *Settings) { s.HalfOpen.Tolerate = 3 },
		"halfOpen.timeout: must be between 1ms and 24h, got 0s":                              func(s *Settings) { s.HalfOpen.Timeout = 0 },
		"halfOpen.ramp.from: must be between 0 and 1, got -0.1":                              func(s *Settings) { s.HalfOpen.Ramp = &Ramp{From: -0.1, To: 1, Over: time.Second} },
		"halfOpen.ramp.to: must be above 0 and at most 1, got 0":                             func(s *Settings) { s.HalfOpen.Ramp = &Ramp{Over: time.Second} },
		"halfOpen.ramp.to: must be at least halfOpen.ramp.from (0.5), got 0.4":               func(s *Settings) { s.HalfOpen.Ramp = &Ramp{From: 0.5, To: 0.4, Over: time.Second} },
		"halfOpen.ramp.over: must be between 1ms and 24h, got 0s":                            func(s *Settings) { s.HalfOpen.Ramp = &Ramp{To: 1} },
		"ejection.maxPercent: must be between 0 and 100, got 101":                            func(s *Settings) { s.Ejection.MaxPercent = 101 },
		"ejection.minHealthy: must be between 0 and 1000000, got -1":                         func(s *Settings) { s.Ejection.MinHealthy = -1 },
	} {
		s := DefaultSettings()
		change(&s)
		err := s.Validate()
		if err == nil {
			t.Errorf("accepted; want %q", want)
			continue
		}
		if text := err.Error() + "\n"; !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
		if _, err := NewGroup("orders", s, 1); err == nil || !strings.HasPrefix(err.Error(), "policy orders: ") {
			t.Errorf("a group was made of settings with: %s (%v)", want, err)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	s := DefaultSettings()
	s.Window.Size, s.Open.Jitter, s.Ejection.MaxPercent = 0, 2, -1
	var keys []string
	for _, p := range s.Problems() {
		keys = append(keys, p.Key)
	}
	if got := strings.Join(keys, " "); got != "window.size open.jitter ejection.maxPercent" {
		t.Fatal(got)
	}
}

func TestDefaultSettingsAreValid(t *testing.T) {
	s := DefaultSettings()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
}

// TestNoSettingsPanic makes groups of any settings, mostly impossible ones, and uses those that are accepted.
func TestNoSettingsPanic(t *testing.T) {
	number := rapid.OneOf(rapid.IntRange(-2, 12), rapid.SampledFrom([]int{math.MinInt, math.MaxInt, 100_000, MaxCallCount}))
	duration := rapid.OneOf(rapid.SampledFrom([]time.Duration{-1, 0, 1, time.Millisecond, time.Second, MaxDuration, math.MaxInt64}),
		rapid.Map(rapid.IntRange(1, 100), func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }))
	fraction := rapid.OneOf(rapid.Float64Range(-0.1, 1.1), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300}))
	var trip func(t *rapid.T, depth int) Trip
	trip = func(t *rapid.T, depth int) Trip {
		r := Trip{
			Kind: TripKind(rapid.IntRange(0, int(tripKinds)).Draw(t, "kind")), N: number.Draw(t, "n"), Rate: fraction.Draw(t, "rate"),
			Over: duration.Draw(t, "over"), Stdev: fraction.Draw(t, "stdev"), MinBackends: number.Draw(t, "backends"),
			State: State(rapid.IntRange(0, int(states)).Draw(t, "state")),
		}
		for range rapid.IntRange(0, depth).Draw(t, "children") {
			r.Children = append(r.Children, trip(t, depth-1))
		}
		return r
	}
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSettings()
		if rapid.Bool().Draw(t, "change trip") {
			s.Trip = trip(t, 2)
		}
		if rapid.Bool().Draw(t, "change window") {
			s.Window = Window{Type: WindowType(rapid.IntRange(0, 2).Draw(t, "type")), Size: duration.Draw(t, "size"),
				Bucket: duration.Draw(t, "bucket"), Count: number.Draw(t, "count")}
		}
		if rapid.Bool().Draw(t, "change open") {
			s.Open = Open{Duration: duration.Draw(t, "open"), Backoff: Backoff(rapid.IntRange(0, 3).Draw(t, "backoff")),
				Multiplier: fraction.Draw(t, "multiplier"), Max: duration.Draw(t, "max"), Jitter: fraction.Draw(t, "jitter")}
		}
		if rapid.Bool().Draw(t, "change half-open") {
			s.HalfOpen = HalfOpen{Calls: number.Draw(t, "calls"), Concurrent: number.Draw(t, "concurrent"),
				Tolerate: number.Draw(t, "tolerate"), Timeout: duration.Draw(t, "timeout")}
			if rapid.Bool().Draw(t, "ramp") {
				s.HalfOpen.Ramp = &Ramp{From: fraction.Draw(t, "from"), To: fraction.Draw(t, "to"), Over: duration.Draw(t, "over")}
			}
		}
		s.Mode = Mode(rapid.IntRange(0, 4).Draw(t, "mode"))
		s.Ejection = Ejection{MaxPercent: 100 * fraction.Draw(t, "percent"), MinHealthy: number.Draw(t, "healthy")}
		g, err := NewGroup("p", s, 1)
		if err != nil {
			return
		}
		now := Time(0)
		for i := range 60 {
			c := g.Add(string(rune('a'+i%3)), now)
			a, _ := c.Allow(now, nil)
			o := drawOutcome(t)
			o.Generation, o.Permit, o.Began = a.Generation, a.Permit, now
			c.RecordN(now, &o, uint64(rapid.IntRange(1, 1000).Draw(t, "n")), nil)
			c.SetOldestPending(now, true)
			now = later(now, duration.Draw(t, "wait"))
			if now < 0 {
				now = 0
			}
			if now > 1<<62 {
				break
			}
			g.Advance(now, nil)
		}
	})
}
