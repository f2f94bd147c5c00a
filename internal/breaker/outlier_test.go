package breaker

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestFieldsAreWhatALookAtEachBackendSays compares the sums that are kept with a look at every window, whatever came
// before: outcomes, silence, departures, transitions, reloads.
func TestFieldsAreWhatALookAtEachBackendSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outlier := func(t *rapid.T) Trip {
			return Trip{
				Kind: TripSuccessRateOutlier, N: rapid.IntRange(1, 6).Draw(t, "minCalls"), MinBackends: rapid.IntRange(1, 4).Draw(t, "minBackends"),
				Stdev: rapid.SampledFrom([]float64{0, 0.5, 1, 1.9}).Draw(t, "stdev"),
			}
		}
		s := DefaultSettings()
		s.Trip = all(never(), outlier(t), outlier(t))
		if rapid.Bool().Draw(t, "count window") {
			s.Window = Window{Type: WindowCount, Count: rapid.IntRange(1, 20).Draw(t, "size")}
		}
		g, err := NewGroup("p", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		now := Time(0)
		backend := func(t *rapid.T) string { return fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "backend")) }
		t.Repeat(map[string]func(*rapid.T){
			"record": func(t *rapid.T) {
				c := g.Add(backend(t), now)
				o := Outcome{Result: rapid.SampledFrom([]Result{200, 200, 500}).Draw(t, "result"), Generation: c.Generation()}
				c.RecordN(now, &o, uint64(rapid.IntRange(1, 30).Draw(t, "n")), nil)
			},
			"wait":   func(t *rapid.T) { now += Time(rapid.Int64Range(0, int64(4*time.Second)).Draw(t, "wait")) },
			"remove": func(t *rapid.T) { g.Remove(backend(t), now, nil) },
			"clear": func(t *rapid.T) {
				c := g.Add(backend(t), now)
				c.Impose(now, Override{Mode: ModeForcedOpen, Until: Never}, nil)
				c.Auto(now, "", "", nil)
			},
			"reload": func(t *rapid.T) {
				s.Trip = all(never(), outlier(t))
				if _, err := g.Update(s, now, nil); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				first := rapid.IntRange(0, max(len(g.Circuits())-1, 0)).Draw(t, "first")
				for i := range g.plan.closed.leaves {
					l := &g.plan.closed.leaves[i]
					if l.kind != TripSuccessRateOutlier || len(g.Circuits()) == 0 {
						continue
					}
					c := g.Circuits()[first]
					c.expire(now) // as a record does; the others are as they were
					got := g.isOutlier(c, l, now)
					for _, other := range g.Circuits() {
						other.expire(now)
					}
					rate, threshold, ok := g.outlier(c, l, now)
					if want := ok && rate < threshold; got != want {
						t.Fatalf("%s is an outlier: %v, a look at each says %v (%v, %v)", c.Backend(), got, want, rate, threshold)
					}
				}
				for _, c := range g.Circuits() {
					c.expire(now)
				}
				for _, f := range g.fields {
					want := field{calls: f.calls}
					for _, c := range g.Circuits() {
						want.add(share(&c.window.counts, f.calls))
					}
					if f != want {
						t.Fatalf("field %+v, want %+v", f, want)
					}
				}
			},
		})
	})
}
